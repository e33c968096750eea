"""Dockerfiles that a kind and an unkind user would write: every construct in many spellings, drawn by hypothesis."""

from __future__ import annotations

import json
import re

from hypothesis import strategies as st

from tests.oracle.ours import Case

__all__ = ["cases"]

NAMES = ["A", "B", "C", "TARGETARCH", "U"]
STAGES = ["one", "two", "x-y"]
PATHS = [
    "a.txt",
    "b.txt",
    "d",
    "d/e.txt",
    "d/",
    ".",
    "./a.txt",
    "/b.txt",
    "../a.txt",
    "lnk",
    "lnk/f.txt",
    "d/l",
    "*.txt",
    "d/*",
]
PATHS += [
    "?.txt",
    "[ab].txt",
    "[^a].txt",
    "odd[[]1].txt",
    "d/s",
    "d/../a.txt",
    "$A.txt",
    "${A}.txt",
    "${B:-a}.txt",
    "*/*.txt",
]
PATHS += [
    "${A:+b}.txt",
    "${C#x}.txt",
    "${C%.*}.txt",
    '"a.txt"',
    "'b.txt'",
    "\\a.txt",
    "$TARGETARCH.txt",
    ".dot",
    "d/s/..",
]
WORDS = [
    "x",
    "$A",
    "${A}",
    "${B:-two}",
    "${C:+set}",
    "'$A'",
    '"$A b"',
    "\\$A",
    "a\\ b",
    "'x <<E'",
    '"<<E"',
    "$((1<<2))",
    "é",
    "#no",
]
WORDS += ["\\\\", "${C##*.}", "${C%%.*}", "${C/./_}", "${C//[a]/_}", "a<<b", "`", "${U-unset}", "$$", "%"]
EOL = ["", " ", "\t", "  "]


def _keyword(word: str) -> st.SearchStrategy[str]:
    return st.sampled_from([word, word, word, word.lower(), word.capitalize()])


@st.composite
def _gap(draw: st.DrawFn) -> str:
    """Blanks between words, or a continuation with all that may stand in it."""
    return draw(
        st.sampled_from(
            [" "] * 12
            + [
                "  ",
                "\t",
                " \\\n",
                " \\\n  ",
                " \\ \n",
                " \\\n# comment\n  ",
                " \\\n\n  ",
                " \\\n  # <<E \\\n ",
                " \\\n \\\n",
            ]
        )
    )


@st.composite
def _mount(draw: st.DrawFn, stages: list[str]) -> str:
    origins = [*stages, "${BASE}"[:0] or "imagetiers-oracle-base:1"]
    fields = [draw(st.sampled_from(["type=bind", "type=bind", "TYPE=BIND", "type=cache", "type=tmpfs"]))]
    if draw(st.booleans()):
        fields = []
    kind = fields[0].lower() if fields else "type=bind"
    if kind == "type=bind" and draw(st.integers(0, 2)):
        origin = draw(st.sampled_from(origins))
        fields.append(f"from={origin}")
        if draw(st.booleans()):
            fields.append(draw(st.sampled_from(["source=/base", "src=base", "source=/"])))
    elif kind == "type=bind":
        fields.append(
            draw(st.sampled_from(["source=d", "src=/a.txt", "source=.", "source=lnk", "src=$A.txt", "source=c d.txt"]))
        )
    fields.append(draw(st.sampled_from(["target=/m", "dst=/m", "destination=/m"])))
    fields += draw(st.sampled_from([[], [], ["ro"], ["rw"], ["readonly=true"]]))
    fields = draw(st.permutations(fields))
    style = draw(st.integers(0, 5))
    if style == 1:
        text = json.dumps(",".join(fields))
    elif style == 2:
        text = ",".join(f'"{field}"' for field in fields)
    elif style == 3:
        text = ",".join('\\"' + field + '\\"' for field in fields)
    elif style == 4:
        text = "'" + ",".join(fields) + "'"
    else:
        text = ",".join(field.replace(" ", "\\ ") for field in fields)
    return f"--mount={text}"


@st.composite
def _heredoc(draw: st.DrawFn, number: int) -> str:
    name = draw(st.sampled_from(["E", "EOF", "robots.txt", "e-1", "X_Y"]))
    quote = draw(st.sampled_from(["", "", "'", '"']))
    dash = draw(st.sampled_from(["", "", "-"]))
    tabs = "\t" if dash else ""
    lines = draw(
        st.lists(
            st.sampled_from(["echo in", "$A", "# no comment", "FROM nothing", "", "\tx", "COPY a b", "x \\"]),
            max_size=3,
        )
    )
    body = "".join(f"{tabs}{line}\n" for line in lines)
    announced = f"<<{dash}{quote}{name}{quote}"
    form = draw(st.integers(0, 3))
    if form == 0:
        return f"RUN cat {announced} > /h{number}\n{body}{tabs}{name}\n"
    if form == 1:
        return f"COPY {announced} /h{number}\n{body}{tabs}{name}\n"
    if form == 2:
        return f"COPY {announced} {draw(st.sampled_from(['a.txt', 'd']))} <<Z /hd{number}/\n{body}{tabs}{name}\nz\nZ\n"
    return f"RUN {announced}\n{tabs}echo script > /h{number}\n{tabs}{name}\n"


@st.composite
def _instruction(draw: st.DrawFn, number: int, stages: list[str]) -> str:
    kind = draw(st.integers(0, 13))
    gap = draw(_gap())
    end = draw(st.sampled_from(EOL))
    word = draw(st.sampled_from(WORDS))
    if kind <= 2:
        flags = "".join(draw(_mount(stages)) + draw(_gap()) for _ in range(draw(st.integers(0, 2))))
        command = f"(ls /m; cat /m /m/*.txt /m/*/* ; echo {word}) > /r{number} 2>&1 || true"
        return f"{draw(_keyword('RUN'))}{gap}{flags}{command}{end}\n"
    if kind == 3:
        odd = draw(st.sampled_from(["<<<x", "1 << 2", "<<", "x\\\\", "", "\u00a0", "\u2028"]))
        return f"RUN{gap}echo {word} {odd} > /q{number} || true{end}\n"
    if kind == 4:
        return draw(_heredoc(number))
    if kind <= 8:
        sources = draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=2))
        flags = draw(
            st.sampled_from(
                [
                    "",
                    "",
                    "",
                    "--link ",
                    "--chmod=600 ",
                    "--chown=u ",
                    "--chown='u:7' ",
                    "--link=false ",
                    "--chmod=0755 --link ",
                ]
            )
        )
        form = draw(st.integers(0, 5))
        target = f"/c{number}/"
        if form == 0:
            listed = ",".join(
                '"' + source.replace("\\", "\\\\").replace('"', '\\"') + '"' for source in [*sources, target]
            )
            return f"COPY{gap}{flags}[{listed}]{end}\n"
        if form == 1 and stages:
            origin = draw(st.sampled_from([*stages, "0", "imagetiers-oracle-base:1"]))
            return f"COPY{gap}{flags}--from={origin} /base {target}{end}\n"
        return f"{draw(_keyword('COPY' if form else 'ADD'))}{gap}{flags}{gap.join([*sources, target])}{end}\n"
    if kind == 9:
        name = draw(st.sampled_from(NAMES))
        default = draw(st.sampled_from(["", "=1", "=a", '="a b"', "=$A", "=${A:-z}", "='$A'", "=a.b.txt", "="]))
        return f"ARG{gap}{name}{default}{end}\n"
    if kind == 10:
        name = draw(st.sampled_from(NAMES))
        value = draw(st.sampled_from(["1", "a", '"a b"', "$A", "'q'", "a\\ b"]))
        form = draw(st.integers(0, 2))
        return [f"ENV {name}={value}{end}\n", f"ENV {name} {value}{end}\n", f"ENV{gap}{name}={value} Z=$A\n"][form]
    if kind == 11:
        return draw(
            st.sampled_from(
                ["# comment\n", "\n", "#\n", "  # indented \\\n", "\t\n", "LABEL x=y\n", "EXPOSE 80\n", "USER 0\n"]
            )
        )
    if kind == 12:
        return draw(
            st.sampled_from(
                ["WORKDIR /w\n", "WORKDIR $A\n", 'SHELL ["/bin/sh", "-ec"]\n', "CMD x\n", "ENTRYPOINT []\n"]
            )
        )
    return f'RUN ["sh", "-c", "echo json > /j{number}"]{end}\n'


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a Dockerfile of one to four stages, with arguments for some of what it declares."""
    lines = [
        draw(
            st.sampled_from(
                ["", "", "", "# a comment\n", "# escape=\\\n", "#escape = \\\n", "# check=skip=all\n", "\n# escape=`\n"]
            )
        )
    ]
    lines.append("ARG BASE\n")
    for name in draw(st.lists(st.sampled_from(NAMES[:3]), max_size=2, unique=True)):
        lines.append(f"ARG {name}{draw(st.sampled_from(['', '=a', '=one', '=$TARGETARCH', '=x.txt']))}\n")
    names: list[str] = []
    number = 0
    for index in range(draw(st.integers(1, 4))):
        base = draw(
            st.sampled_from(["${BASE}", "$BASE", '"${BASE}"', "${BASE:-none}", "${BASE}", "scratch", *names, *names])
        )
        name = STAGES[index] if index < len(STAGES) else ""
        if name and draw(st.integers(0, 3)) == 0:
            name = ""
        platform = draw(st.sampled_from(["", "", "", "--platform=linux/amd64 ", "--platform=$TARGETPLATFORM "]))
        named = f" {draw(st.sampled_from(['AS', 'as']))} {name}" if name else ""
        lines.append(f"FROM {platform}{base}{named}\n")
        for _ in range(draw(st.integers(1, 5))):
            number += 1
            lines.append(draw(_instruction(number, list(names))))
        if name:
            names.append(name)
    if not any(line.startswith(("COPY", "RUN", "ADD")) for line in lines[-2:]):
        lines.append("COPY a.txt /last\n")
    text = "".join(lines)
    if draw(st.integers(0, 9)) == 0:
        text = text.replace("\n", "\r\n")
    declared = [name for name in NAMES[:3] if re.search(rf"^ARG\s+{name}\b", text, re.MULTILINE)]
    given = {name: draw(st.sampled_from(["a", "b", "1", "x y", "v1.2"])) for name in declared if draw(st.booleans())}
    return Case(text, given)
