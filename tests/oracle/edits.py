"""Single edits of a project: of an instruction, an argument, a file, the base; each drawn by chance, the same for a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.oracle.project import File, Project

__all__ = ["EDITS", "UNLISTED", "Edit", "UnfitError", "with_unused_stage"]

Edit = Callable[[Project, random.Random], Project]
T = TypeVar("T")

UNLISTED = "notes.md"
_LETTERS = " \t\\\"'$#<>=,:;-/{}[]*&|aA1~`\n\r\u2028\u00a0"
_WORDS = ["a.txt", "b.txt", "d", "d/", "lnk", "*.txt", ".", "x", "one", "two", "$A", "${B:-a}", "'x <<E'", "<<E"]
_WORDS += ["\\", "E", "&&", "0", "/base", "--link", "--from=one"]
_KEYWORD = re.compile(
    r"^[ \t]*(FROM|RUN|COPY|ADD|ARG|ENV|LABEL|USER|WORKDIR|SHELL|CMD)\b", re.IGNORECASE | re.MULTILINE
)
_ARG = re.compile(r"^(\s*ARG\s+)(\w+)(=\S*)?", re.IGNORECASE | re.MULTILINE)
_UNUSED = "FROM ${BASE} AS unused\nCOPY a.txt /unused\nRUN echo 1 > /u && echo 'x <<E'\n"


class UnfitError(Exception):
    """The project has nothing that this edit could be made to."""


def _pick(chance: random.Random, found: Sequence[T]) -> T:
    if not found:
        raise UnfitError
    return chance.choice(found)


def with_unused_stage(project: Project) -> Project:
    """Return the project with a stage that nothing needs, behind what comes before the first FROM."""
    at = re.search(r"^FROM ", project.text, re.MULTILINE | re.IGNORECASE)
    if at is None or project.parent is not None:
        raise UnfitError
    return replace(project, text=project.text[: at.start()] + _UNUSED + project.text[at.start() :])


# ---- of the text ----


def _text(change: Callable[[str, random.Random], str]) -> Edit:
    def edit(project: Project, chance: random.Random) -> Project:
        if project.parent is not None and chance.randrange(3) == 0:
            return replace(project, parent=replace(project.parent, text=change(project.parent.text, chance)))
        return replace(project, text=change(project.text, chance))

    return edit


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True) if "\r" not in text else re.findall(r"[^\n]*\n|[^\n]+$", text)


def _letter(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text))
    letter = chance.choice(_LETTERS)
    return chance.choice(
        (text[:at] + letter + text[at:], text[:at] + letter + text[at + 1 :], text[:at] + text[at + 1 :])
    )


def _word(text: str, chance: random.Random) -> str:
    word = _pick(chance, list(re.finditer(r"\S+", text)))
    other = chance.choice([*_WORDS, *text.split()])
    return text[: word.start()] + other + text[word.end() :]


def _instruction(text: str, chance: random.Random) -> str:
    lines = _lines(text)
    at = chance.randrange(len(lines))
    how = chance.randrange(3)
    if how == 0:
        return "".join(lines[:at] + lines[at + 1 :])
    if how == 1:
        return "".join([*lines[:at], lines[at], *lines[at:]])
    other = chance.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]
    return "".join(lines)


def _comment(text: str, chance: random.Random) -> str:
    lines = _lines(text)
    comments = [at for at, line in enumerate(lines) if line.lstrip().startswith("#")]
    if comments and chance.randrange(2):
        at = chance.choice(comments)
        lines[at] = lines[at].rstrip("\r\n") + chance.choice((" why", " \\", " <<E", " FROM x")) + "\n"
        return "".join(lines)
    comment = chance.choice(
        ("# why\n", "# why \\\n", "  # why\n", "#\n", "# RUN <<E\n", "#why COPY x y\n", "# escape=`\n")
    )
    at = chance.randrange(len(lines) + 1)
    return "".join([*lines[:at], comment, *lines[at:]])


def _blank(text: str, chance: random.Random) -> str:
    how = chance.randrange(4)
    if how == 0:
        lines = _lines(text)
        at = chance.randrange(len(lines) + 1)
        return "".join([*lines[:at], chance.choice(("\n", " \n", "\t\n")), *lines[at:]])
    if how == 1:
        end = _pick(chance, list(re.finditer(r"(?=\r?\n)", text)))
        return text[: end.start()] + chance.choice((" ", "\t", "  ")) + text[end.start() :]
    gap = _pick(chance, list(re.finditer(r"[ \t]+", text)))
    other = chance.choice(("  ", "\t", " \\\n", " \\\n  # why\n  ", " \\\n\n", "\\\n "))
    return text[: gap.start()] + (other if gap.group() != other else " ") + text[gap.end() :]


def _quotes(text: str, chance: random.Random) -> str:
    word = _pick(chance, list(re.finditer(r"[^\s\"'\\]+", text)))
    quote = chance.choice("\"'")
    return text[: word.start()] + quote + word.group() + quote + text[word.end() :]


def _keyword(text: str, chance: random.Random) -> str:
    word = _pick(chance, list(_KEYWORD.finditer(text)))
    return text[: word.start()] + word.group().swapcase() + text[word.end() :]


def _line_ends(text: str, chance: random.Random) -> str:
    how = chance.randrange(3)
    if how == 0:
        return text.replace("\r\n", "\n") if "\r\n" in text else text.replace("\n", "\r\n")
    if how == 1:
        return text.removesuffix("\n") if text.endswith("\n") else text + "\n"
    return text.removeprefix("\ufeff") if text.startswith("\ufeff") else "\ufeff" + text


def _default(text: str, chance: random.Random) -> str:
    found = _pick(chance, [match for match in _ARG.finditer(text) if match[2] not in {"BASE", "PARENT"}])
    value = chance.choice([f"={value}" for value in ("a", "b", "1", "'c d'", "$A", "", "${TARGETARCH}")] + [""])
    return text[: found.start()] + found[1] + found[2] + value + text[found.end() :]


def _unused(project: Project, chance: random.Random) -> Project:
    """Edit within the stage that nothing needs (see with_unused_stage), so that BuildKit still reads the file."""
    begin = project.text.find(_UNUSED)
    if begin < 0:
        raise UnfitError
    other = chance.choice(
        (
            _UNUSED.replace("echo 1", "echo 2"),
            _UNUSED.replace("a.txt", "b.txt"),
            _UNUSED + "COPY nothing /nothing\n",
            _UNUSED + "ENV A=a B=b\nARG C=c\n",
            _UNUSED + "RUN cat <<E\nFROM nothing\nE\n",
            _UNUSED + "RUN --mount=type=bind,source=d,target=/m true\n",
            _UNUSED.replace("RUN", "# why \\\nRUN"),
            "",
        )
    )
    return replace(project, text=project.text.replace(_UNUSED, other))


# ---- of what is around it ----


def _argument(project: Project, chance: random.Random) -> Project:
    declared = sorted({match[2] for match in _ARG.finditer(project.text)} - {"BASE", "PARENT"})
    name = _pick(chance, declared)
    value = chance.choice(("a", "b", "1", "x y", "v1.2", "", "a$A", "'"))
    args = dict(project.args)
    if args.get(name) == value:
        del args[name]
    else:
        args[name] = value
    return replace(project, args=args)


def _target(project: Project, chance: random.Random) -> Project:
    names = re.findall(r"^FROM .* AS (\S+)\s*$", project.text, re.MULTILINE | re.IGNORECASE)
    return replace(project, target=_pick(chance, [name.lower() for name in names if name.lower() != project.target]))


def _listed(project: Project, chance: random.Random, *, links: bool) -> str:
    return _pick(chance, [n for n, f in project.files.items() if (f.link is not None) == links and n != UNLISTED])


def _with(project: Project, name: str, file: File | None) -> Project:
    files: Mapping[str, File] = {**project.files, **({name: file} if file is not None else {})}
    return replace(project, files=files if file is not None else {n: f for n, f in files.items() if n != name})


def _content(project: Project, chance: random.Random) -> Project:
    name = _listed(project, chance, links=False)
    before = project.files[name]
    content = chance.choice((before.content + b"more\n", b"", before.content.replace(b"\n", b"\r\n"), b"\0\xff"))
    return _with(project, name, replace(before, content=content))


def _mode(project: Project, chance: random.Random) -> Project:
    name = _listed(project, chance, links=False)
    return _with(project, name, replace(project.files[name], executable=not project.files[name].executable))


def _link(project: Project, chance: random.Random) -> Project:
    how = chance.randrange(3)
    if how == 0:
        return _with(project, _listed(project, chance, links=True), File(b"no link\n"))
    if how == 1:
        return _with(project, _listed(project, chance, links=False), File(link=chance.choice(("b.txt", "d", "run.sh"))))
    return _with(
        project, _listed(project, chance, links=True), File(link=chance.choice(("../b.txt", "d", "b.txt", "./d/s")))
    )


def _name(project: Project, chance: random.Random) -> Project:
    how = chance.randrange(3)
    if how == 0:
        return _with(project, chance.choice(("c.txt", "d/new.txt", "d/s/new", "new")), File(b"new\n"))
    name = _listed(project, chance, links=False)
    if how == 1:
        return _with(project, name, None)
    return _with(
        _with(project, name, None), chance.choice((f"{name}.txt", f"d/{name}", f"x{name}")), project.files[name]
    )


def _unlisted(project: Project, chance: random.Random) -> Project:
    before = project.files.get(UNLISTED)
    if before is None:
        raise UnfitError
    return _with(
        project, UNLISTED, File(before.content + chance.choice((b"more\n", b"FROM x\n")), chance.random() < 0.5)
    )


def _base(project: Project, chance: random.Random) -> Project:
    """Pin the base's tag at another of its images, as `doit lock` does when the tag was moved."""
    if project.parent is not None:
        return replace(project, parent=_base(project.parent, chance))
    return replace(project, digest=_pick(chance, [digest for digest in project.digests if digest != project.digest]))


EDITS: Mapping[str, Edit] = {
    "a letter": _text(_letter),
    "a word": _text(_word),
    "an instruction": _text(_instruction),
    "a comment": _text(_comment),
    "a blank": _text(_blank),
    "quotes": _text(_quotes),
    "a keyword's case": _text(_keyword),
    "the lines' ends": _text(_line_ends),
    "an ARG's default": _text(_default),
    "an unreachable stage": _unused,
    "a build argument": _argument,
    "the target": _target,
    "a file's content": _content,
    "a file's mode": _mode,
    "a link": _link,
    "a file's name": _name,
    "an unlisted file": _unlisted,
    "the base": _base,
}
