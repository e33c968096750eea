"""Dockerfiles are read as BuildKit reads them."""

from __future__ import annotations

import pytest

from imagetiers.dockerfile import Dockerfile
from imagetiers.dockerparse import parse_dockerfile
from imagetiers.dockershell import Unresolved, expand


def parse(text: str) -> Dockerfile:
    return parse_dockerfile(text.encode(), "Dockerfile")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain", "plain"),
        ("$A", "1"),
        ("${A}b", "1b"),
        ("$Ab", ""),
        ("${B:-two}", "two"),
        ("${E:-two}", "two"),
        ("${E-two}", ""),
        ("${B-two}", "two"),
        ("${A:+set}", "set"),
        ("${E:+set}", ""),
        ("${E+set}", "set"),
        ("${B:-${A}-x}", "1-x"),
        ("${A?must}", "1"),
        (r"\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A b"', "1 b"),
        ("a'b'c", "abc"),
        ("$", "$"),
        ("5$", "5$"),
        ("${B:-a}b}", "ab}"),
    ],
)
def test_expansion(word: str, expected: str) -> None:
    assert expand(word, {"A": "1", "E": ""}) == expected


@pytest.mark.parametrize("word", ["$B", "${B}", "${B:?must}", "${A#x}", "${", "${A:-x"])
def test_what_cannot_be_resolved_is_said(word: str) -> None:
    with pytest.raises(Unresolved):
        expand(word, {"A": "1"}, strict=True)


def test_continuations_comments_and_the_escape_directive() -> None:
    text = "# escape=`\nFROM a\nRUN one `\n# a comment\n\n  two `\n  three\nRUN c:\\dir\\\n"
    runs = [i.text for i in parse(text).stages[0].instructions]

    assert runs == ["one   two   three", "c:\\dir\\"]


def test_heredocs() -> None:
    text = 'FROM a\nRUN <<A cat <<-"B"\nx\nA\n\ty\n\tB\nCOPY <<F /f\nFROM not-a-stage\nF\nRUN end\n'
    stage = parse(text).stages[0]

    assert [(i.keyword, i.heredocs) for i in stage.instructions] == [
        ("RUN", ("x", "\ty")),
        ("COPY", ("FROM not-a-stage",)),
        ("RUN", ()),
    ]
    assert list(parse(text).context_uses((stage,), {})) == []


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
    file = parse(GRAPH)
    last = file.stage(None)
    assert last is not None

    def names(**args: str) -> list[str]:
        return [stage.name for stage in file.reach(last, args)]

    assert names() == ["tools", "source-git", "builder", "compiled", "wheels", "last"]
    assert names(KIND="deb") == ["tools", "source-deb", "builder", "compiled", "wheels", "last"]
    replaced = file.reach(last, {}, replaced=frozenset({"wheels"}))
    assert [stage.name for stage in replaced] == ["tools", "source-git", "builder", "last"]


def test_outside_images_and_what_comes_from_the_context() -> None:
    file = parse(GRAPH)
    stages = file.reach(file.stages[-1], {"KIND": "deb"})

    assert file.outside(stages, {"KIND": "deb"}) == {"debian": 4, "alpine:3": 17, "ghcr.io/x/y:1": 19}
    assert [use.source for use in file.context_uses(stages, {"KIND": "deb"})] == [
        "deb one",
        "deb-flags.env",
        "script",
        "local.tgz",
    ]


def test_a_stage_is_found_by_name_number_and_only_backwards() -> None:
    file = parse("FROM a AS One\nFROM one AS two\nFROM 1\nCOPY --from=three / /\nFROM b AS three\n")

    assert file.stage("ONE") is file.stages[0]
    assert [s.name for s in file.reach(file.stages[2], {})] == ["one", "two", ""]
    assert "three" in file.outside(file.stages[2:3], {})


def test_env_and_arg_scopes() -> None:
    file = parse("ARG V=1\nFROM a AS x\nENV W=e\nARG V\nCOPY $V-$W-$U /\nFROM x\nCOPY $V-$W-${U:-u} /\n")

    with pytest.raises(Unresolved):
        list(file.context_uses(file.stages[:1], {}))
    assert [use.source for use in file.context_uses(file.stages[1:], {"V": "2"})] == ["2-e-u"]
