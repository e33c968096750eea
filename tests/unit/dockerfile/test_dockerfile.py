"""Dockerfiles are read as BuildKit reads them."""

from __future__ import annotations

import pytest

from imagetiers.dockerfile.context import Patterns, Tree
from imagetiers.dockerfile.expand import LexError, Scope, Unresolved, expand
from imagetiers.dockerfile.model import Dockerfile
from imagetiers.dockerfile.parser import parse_dockerfile
from imagetiers.dockerfile.reading import Reading
from imagetiers.dockerfile.render import render_dockerfile
from imagetiers.errors import PipelineError


def parse(text: str) -> Dockerfile:
    return parse_dockerfile(text.encode(), "Dockerfile")


def read(text: str, **args: str) -> Reading:
    return Reading(parse(text), args, "linux/amd64")


VALUES = {"A": "1", "E": "", "V": "v1.2.3-rc1", "P": "/a/b/c.tar.gz"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain", "plain"),
        ("$A", "1"),
        ("${A}b", "1b"),
        ("${B:-two}", "two"),
        ("${E:-two}", "two"),
        ("${E-two}", ""),
        ("${B-two}", "two"),
        ("${A:+set}", "set"),
        ("${E:+set}", ""),
        ("${E+set}", "set"),
        ("${B:-${A}-x}", "1-x"),
        ("${A?must}", "1"),
        ("${V#v}", "1.2.3-rc1"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%/*}", "/a/b"),
        ("${P%%.*}", "/a/b/c"),
        ("${V/rc?/final}", "v1.2.3-final"),
        ("${P//a/x}", "/x/b/c.txr.gz"),
        (r"\$A", "$A"),
        (r'"\a\"\$A"', r"\a" + '"$A'),
        ("'$A'", "$A"),
        ('"$A b"', "1 b"),
        ("a'b'c", "abc"),
        ("$", "$"),
        ("5$", "5$"),
        ("${B:-a}b}", "ab}"),
    ],
)
def test_expansion(word: str, expected: str) -> None:
    assert expand(word, Scope(dict(VALUES))) == expected


@pytest.mark.parametrize("word", ["$B", "${B}", "${B:?must}", "$Ab", "$1", "$@"])
def test_what_has_no_value_is_said(word: str) -> None:
    with pytest.raises(Unresolved):
        expand(word, Scope(dict(VALUES)))


@pytest.mark.parametrize("word", ["${", "${A:-x", "'a", '"a', "${A^^}", "${A:#x}", "${A#}", "${A/x}", "${}", "${:x}"])
def test_what_cannot_be_read_is_said(word: str) -> None:
    with pytest.raises(LexError):
        expand(word, Scope(dict(VALUES)))


def test_in_an_image_that_is_not_read_other_variables_may_be_set() -> None:
    scope = Scope({"A": "1", "U": None}, open=True)

    assert expand("$A${A:+x}", scope) == "1x"
    for word in ("${B:-two}", "${U:-two}", "${B+set}"):
        with pytest.raises(Unresolved):
            expand(word, scope)


def test_continuations_comments_and_the_escape_directive() -> None:
    text = "# escape=`\nFROM a\nRUN one `\n# a comment\n\n  two `  \n  three\nRUN c:\\dir\\\n"
    runs = [i.text for i in parse(text).stages[0].instructions]

    assert runs == ["one   two   three", "c:\\dir\\"]


def test_an_escaped_escape_continues_nothing() -> None:
    reading = read("FROM a AS b\nFROM c\nRUN echo one \\\\\nCOPY --from=b /x /y\n")
    last = reading.dockerfile.stages[1]

    assert [i.keyword for i in last.instructions] == ["RUN", "COPY"]
    assert [stage.name for stage in reading.reach(last)] == ["b", ""]


def heredocs(line: str, rest: str = "") -> list[tuple[str, str]]:
    instruction = parse(f"FROM a\n{line}\n{rest}").stages[0].instructions[0]
    return [(heredoc.name, heredoc.content) for heredoc in instruction.heredocs]


@pytest.mark.parametrize(
    "line",
    [
        "RUN echo 'x <<E'",
        'RUN echo "x <<E"',
        "RUN cat <<< $x",
        "RUN cat <<<E",
        'RUN python3 -c "1<<N"',
        'RUN echo "cout << x;" > a.cpp',
        "RUN echo $((1<<A))",
        "RUN a<<E",
        "RUN echo \\<<E",
        "RUN echo 'never ends <<E",
        'RUN ["cat", "<<E"]',
        "CMD <<E",
        "RUN echo ${x^^} <<E",
        "RUN <<",
    ],
)
def test_no_heredoc(line: str) -> None:
    assert heredocs(line) == []


@pytest.mark.parametrize(
    ("line", "rest", "expected"),
    [
        ('RUN <<A cat <<-"B"', "x\nA\n\ty\n\tB\n", [("A", "x\n"), ("B", "\ty\n")]),
        (
            "COPY <<robots.txt <<humans.txt /",
            "a\nrobots.txt\nb\nhumans.txt\n",
            [("robots.txt", "a\n"), ("humans.txt", "b\n")],
        ),
        ("RUN 3<<E cat <&3", "a\r\nE\r\n", [("E", "a\r\n")]),
        ("RUN <<E", "E\n", [("E", "")]),
        ("RUN cat <<E > /f && cat <<'F F'", "E\n\nF F\n", [("E", ""), ("F F", "\n")]),
        ("ONBUILD RUN <<E", "x\nE\n", [("E", "x\n")]),
        ("RUN v=${x#v} cat <<E", "E\n", [("E", "")]),
    ],
)
def test_heredocs(line: str, rest: str, expected: list[tuple[str, str]]) -> None:
    assert heredocs(line, rest) == expected


def problems(text: str) -> list[str]:
    with pytest.raises(PipelineError) as caught:
        parse(text)
    return [f"{problem.where}: {problem.what}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("RUN cat << E\nx\nE", "2: RUN: a blank behind << begins a heredoc in some BuildKit versions only"),
        ('RUN --mount=type=bind,"a', "2: RUN: a quote in a flag does not end"),
        ("RUN --mount=type=bind,form=b x", "2: RUN: 'form' is not an option of --mount"),
        ("RUN --mount=type=bind,from=$B x", "2: RUN: 'from=$B' takes no variables, quotes or escapes"),
        ("RUN --mounts=type=bind x", "2: RUN: there is no flag --mounts, only --mount, --network, --security, --device"),
        ("RUN -- x", "2: RUN: '--' is not a flag"),
        ("RUN", "2: RUN: there is nothing behind it"),
        ("COPY a", "2: COPY: needs at least a source and a destination"),
        ("COPY --from=$A a /", "2: COPY: --from=$A takes no variables, quotes or escapes"),
        ("COPY --link=maybe a /", "2: COPY: --link is true or false, not 'maybe'"),
        ("COPY --chown= a /", "2: COPY: the flag --chown= has no value"),
        ("COPY --chown=a --chown=b a /", "2: COPY: --chown stands twice"),
        ('COPY ["a", "b"] c', "2: COPY: 'c' stands behind the JSON array"),
        ('COPY ["a", 1]', "2: COPY: a JSON array here must hold strings only"),
        ("COPY a <<E\nE", "2: COPY: a heredoc cannot be the destination"),
        ("COPY --chown=jörg a /", "2: COPY: the flag --chown=jörg is not ASCII: BuildKit reads flags byte by byte"),
        ("RUN x\\\u00a0", "2: RUN: ends in an escape character"),
        ("ENV A", "2: ENV: 'A' has no value: write A=…"),
        ("ENV A=1 B", "2: ENV: 'B' is not name=value"),
        ("ARG =1", "2: ARG: '' cannot be the name of an argument"),
        ("RUN echo ${PATH#}", "2: RUN: the pattern in ${PATH#} is empty"),
        ("FROM b AS 1", "2: '1' cannot be the name of a stage"),
        ("FROM b AS scratch", "2: 'scratch' cannot be the name of a stage"),
        ('COPY <<"E F" /\nE F', "2: COPY: a double quote does not end"),
        ('COPY ["<<E", "/"]', "2: COPY: a heredoc's name cannot hold blanks, and a JSON array no heredoc"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, what: str) -> None:
    assert problems(f"FROM a\n{text}\n") == [f"Dockerfile:{what}"]


def test_directives() -> None:
    assert parse("# syntax = docker/dockerfile:1 x\n# escape=`\nFROM a\n").syntax == "docker/dockerfile:1"
    assert parse("# a comment\n# syntax=x\nFROM a\n").syntax is None
    assert parse("\n# escape=`\nFROM a\n").escape == "\\"
    assert problems("# escape=x\nFROM a\n") == ["Dockerfile:1: 'x' cannot be the escape character"]
    assert problems("# check=skip=all\n# escape=`\nFROM a\n") == ["Dockerfile:2: '# escape=' stands behind '# check='"]
    assert problems("#!/bin/x\n# syntax=y\nFROM a\n") == ["Dockerfile:2: '# syntax=' stands behind a line '#!'"]


def test_odd_blanks_are_part_of_words_and_of_comments() -> None:
    reading = read("FROM a\n# a\u2028RUN comment\n\u2003RUN echo a\u2028b\x0cc\nCOPY a\u00a0b /\n")
    stages = reading.dockerfile.stages

    assert [i.text for i in stages[0].instructions] == ["echo a\u2028b\x0cc", "a\u00a0b /"]
    assert [use.source for use in reading.context_uses(stages)] == ["a\u00a0b"]


@pytest.mark.parametrize(
    ("flags", "source"),
    [
        ('--mount=type=bind,"from=b",target=/x', None),
        ('--mount="type=bind,from=b,target=/x"', None),
        ('--mount=type=bind,\\"from=b\\",target=/x', None),
        ("--mount=FROM=b,dst=/x", None),
        ("--mount=target=/x", "."),
        ("--mount=src=d/e,target=/x,rw", "d/e"),
        ("--mount='source=d e',target=/x", "d e"),
        ('--mount=\\"source=d,e\\",target=/x', "d,e"),
        ("--mount=type=cache,target=/x --mount=type=tmpfs,target=/y", ""),
        ("--mount=type=secret,id=s", ""),
    ],
)
def test_mounts(flags: str, source: str | None) -> None:
    reading = read(f"FROM a AS b\nFROM c\nRUN {flags} true\n")
    last = reading.dockerfile.stages[1]

    assert len(reading.reach(last)) == (2 if source is None else 1)
    uses = [use.source for use in reading.context_uses((last,))]
    assert uses == ([source] if source else [])


GRAPH = """
ARG KIND=git
ARG BASE
FROM ${BASE:-debian} AS tools
FROM tools AS source-git
COPY git/ /
FROM tools AS source-deb
COPY ["deb one", "/"]
FROM source-${KIND} AS builder
ARG KIND
ARG FILE=flags
COPY --chown=1:1 ${KIND}-${FILE}.env /
RUN --mount=type=bind,source=script,target=/s --mount=type=cache,target=/c sh /s
FROM builder AS compiled
FROM scratch AS wheels
COPY --from=compiled /w /
FROM alpine:3 AS last
COPY --from=wheels /w /
COPY --from=ghcr.io/x/y:1 /a /b
ADD https://example.com/x.tgz https://github.com/a/b.git local.tgz /
RUN --mount=from=builder,target=/b true
"""


def test_stages_that_are_reached() -> None:
    def names(*replaced: str, **args: str) -> list[str]:
        reading = read(GRAPH, **args)
        return [stage.name for stage in reading.reach(reading.dockerfile.stages[-1], replaced=frozenset(replaced))]

    assert names() == ["tools", "source-git", "builder", "compiled", "wheels", "last"]
    assert names(KIND="deb") == ["tools", "source-deb", "builder", "compiled", "wheels", "last"]
    assert names("wheels") == ["tools", "source-git", "builder", "last"]


def test_outside_images_and_what_comes_from_the_context() -> None:
    reading = read(GRAPH, KIND="deb")
    stages = reading.reach(reading.dockerfile.stages[-1])

    assert reading.outside(stages) == {"debian": 4, "alpine:3": 17, "ghcr.io/x/y:1": 19}
    assert [use.source for use in reading.context_uses(stages)] == [
        "deb one",
        "deb-flags.env",
        "script",
        "local.tgz",
    ]
    assert [use.source for use in reading.remote_uses(stages)] == [
        "https://example.com/x.tgz",
        "https://github.com/a/b.git",
    ]


def test_a_stage_is_found_by_name_and_only_backwards() -> None:
    reading = read(
        "FROM a AS One\nFROM one AS two\nFROM 1\nCOPY --from=1 / /\nCOPY --from=three / /\nFROM b AS three\n"
    )
    stages = reading.dockerfile.stages

    assert reading.dockerfile.stage("ONE") is stages[0]
    assert [s.name for s in reading.reach(stages[2])] == ["one", "two", ""]
    assert set(reading.outside(stages[2:3])) == {"1", "three"}


def sources(text: str, **args: str) -> list[str]:
    reading = read(text, **args)
    return [use.source for use in reading.context_uses(reading.dockerfile.stages[-1:])]


def test_env_and_arg_scopes() -> None:
    text = "ARG V=1\nFROM scratch AS x\nENV W=e\nARG V\nCOPY $V-$W /\nFROM x\nCOPY $V-$W-${U:-u} /\n"

    assert sources(text, V="2") == ["2-e-u"]
    assert sources("FROM a\nARG TARGETARCH TARGETPLATFORM\nCOPY $TARGETARCH $TARGETPLATFORM /\n") == [
        "amd64",
        "linux/amd64",
    ]
    # An ENV of the stage below holds again, over an ARG that came after it there.
    assert sources("FROM a AS b\nENV X=1\nARG X=2\nFROM b\nCOPY $X /\n") == ["1"]
    # ENV sees what held before its line.
    assert sources("FROM a\nENV X=1\nENV X=2 Y=$X\nCOPY $Y /\n") == ["1"]
    assert sources("FROM a\nENV old form $\nCOPY $old /\n") == ["form $"]


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nCOPY $U /",
        "FROM a\nCOPY ${U:-u} /",  # the image a may set it
        "FROM a\nARG U\nCOPY ${U:-u} /",
        "FROM a\nENV P=$PATH\nCOPY $P /",
        "FROM a\nARG X=1 Y=$X\nCOPY $Y /",  # the versions of BuildKit differ
    ],
)
def test_a_source_that_depends_on_what_is_not_read(text: str) -> None:
    with pytest.raises(Unresolved):
        sources(text)


FILES = Tree({
    "a.txt": None, "b.txt": None, "d/a.txt": None, "d/e/c.txt": None, "d/l": "../a.txt", "link": "d/e", "odd[1]": None,
    "d/out": "gone", "[x]": None, "abs": "/d/e", ".dot": None,
})  # fmt: skip


@pytest.mark.parametrize(
    ("source", "patterns", "taken"),
    [
        ("a.txt", Patterns.GO, ["a.txt"]),
        ("d", Patterns.GO, ["d/a.txt", "d/e/c.txt", "d/l", "d/out"]),
        ("d/../a.txt", Patterns.GO, ["a.txt"]),
        ("../../a.txt", Patterns.GO, ["a.txt"]),
        ("*.txt", Patterns.GO, ["a.txt", "b.txt"]),
        ("*/*.txt", Patterns.GO, ["d/a.txt"]),
        ("**/*.txt", Patterns.GO, ["d/a.txt"]),
        ("**/*.txt", Patterns.DEEP, ["a.txt", "b.txt", "d/a.txt", "d/e/c.txt"]),
        ("*", Patterns.NONE, []),
        ("?.txt", Patterns.GO, ["a.txt", "b.txt"]),
        ("[^a].txt", Patterns.GO, ["b.txt"]),
        ("[a-a].txt", Patterns.GO, ["a.txt"]),
        ("odd[[]1]", Patterns.GO, ["odd[1]"]),
        ("link", Patterns.GO, ["d/e/c.txt", "link"]),
        ("link/c.txt", Patterns.GO, ["d/e/c.txt", "link"]),
        ("abs", Patterns.GO, ["abs", "d/e/c.txt"]),
        ("lin*", Patterns.GO, ["d/e/c.txt", "link"]),
        ("d/l", Patterns.GO, ["a.txt", "d/l"]),
        ("d/e/", Patterns.NONE, ["d/e/c.txt"]),
        (".", Patterns.NONE, sorted(FILES.files)),
        ("nothing", Patterns.GO, []),
    ],
)
def test_what_a_source_takes(source: str, patterns: Patterns, taken: list[str]) -> None:
    assert sorted(FILES.take(source, patterns).paths) == taken


def test_a_link_to_what_is_not_there() -> None:
    assert FILES.take("d/out", Patterns.GO).missing == ("d/gone",)


@pytest.mark.parametrize("pattern", ["[", "[]a]", "[a", "[z-a]", "[-a]", "a*\\"])
def test_a_malformed_pattern(pattern: str) -> None:
    with pytest.raises(LexError):
        FILES.take(pattern, Patterns.GO)


def rendered(text: str, *, padded: bool = True, **args: str) -> str:
    reading = read(text, **args)
    stages = reading.reach(reading.dockerfile.stages[-1])
    pins = {"debian:12": "debian:12@sha256:d", "alpine:3": "alpine:3@sha256:a"}
    return render_dockerfile(reading, stages, lambda ref: pins.get(ref, ref), padded=padded).decode()


def test_what_is_sent_is_what_the_key_covers() -> None:
    text = """\
ARG BASE=debian:12
ARG WORD='a "b"'
# a comment
FROM ${BASE} AS used
ARG WORD
ARG TARGETARCH
RUN --mount="type=cache,target=/a b" one \\
    # why
    two
FROM other AS unused
RUN something
FROM used
COPY --from=alpine:3 --link /x /y
RUN --mount=from=alpine:3,target=/z <<E
# kept
E
USER 1
"""
    expected = """\
ARG TARGETARCH="amd64"
ARG WORD="a \\"b\\""

FROM debian:12@sha256:d AS used
ARG WORD
ARG TARGETARCH
RUN --mount="type=cache,target=/a b" one     two


FROM scratch AS unused
COPY .imagetiers-this-stage-is-not-part-of-the-key /
FROM used
COPY --from=alpine:3@sha256:a --link /x /y
RUN --mount=from=alpine:3@sha256:a,target=/z <<E
# kept
E
USER 1
"""
    assert rendered(text) == expected
    assert rendered(text.replace("# a comment\n", ""), padded=False) == rendered(text, padded=False)
    again = parse(expected)
    assert [i.text for s in again.stages for i in s.instructions if i.keyword == "RUN"] == ["one     two", "<<E"]


def test_what_is_sent_is_read_again_as_the_same() -> None:
    text = "# syntax=docker/dockerfile:1@sha256:s\n# escape=`\nFROM scratch AS a\nRUN a\\b `\n  c\nCOPY --chown='a b' x /\n"

    assert rendered(text) == (
        '# syntax=docker/dockerfile:1@sha256:s\n# escape=`\nFROM scratch AS a\nRUN a\\b   c\n\nCOPY --chown="a b" x /\n'
    )
    assert rendered(rendered(text)) == rendered(text)
