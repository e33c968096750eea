"""The text of a Dockerfile as instructions: lines, continuations, comments, directives, flags, heredocs.

Source: moby/buildkit, frontend/dockerfile/parser and frontend/dockerfile/instructions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from imagetiers.dockerfile.directives import Directives
from imagetiers.dockerfile.expand import BLANKS, LexError
from imagetiers.dockerfile.flags import split_flags
from imagetiers.dockerfile.grammar import HEREDOC_KEYWORDS, KEYWORDS, check_instruction
from imagetiers.dockerfile.heredocs import announced_in
from imagetiers.dockerfile.model import Dockerfile, Heredoc, Instruction, Stage
from imagetiers.dockerfile.words import FIELD_BLANKS, json_words
from imagetiers.errors import PipelineError, Problem
from imagetiers.repository_file import decode

__all__ = ["parse_dockerfile"]

MAX_BYTES = 1 << 20
MAX_LINE = 60_000  # bytes; BuildKit's own limit is 65,535, line break included
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_RESERVED = frozenset({"scratch", "context"})

Report = Callable[[int, str, str], None]


def parse_dockerfile(data: bytes, name: str) -> Dockerfile:
    """Read a Dockerfile; `name` is what messages call it.

    Raises PipelineError with every problem of its form, and with all that BuildKit's versions read differently.
    """
    found: list[tuple[int, Problem]] = []

    def report(line: int, what: str, hint: str = "") -> None:
        found.append((line, Problem(f"{name}:{line}", what, hint)))

    text = _decode(data, name)
    directives = Directives()
    lines = _Lines(text)
    instructions = list(_instructions(lines, directives, report))
    directives.check_end(text, report)
    global_args, stages = _stages(instructions, report)
    if not stages and not found:
        raise PipelineError(Problem(name, "there is no FROM in it", "a Dockerfile begins with FROM"))
    PipelineError.raise_if(problem for _, problem in sorted(found, key=lambda entry: entry[0]))
    return Dockerfile(name, directives.escape, directives.syntax, tuple(global_args), tuple(stages))


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise PipelineError(Problem(name, f"is {len(data):,} bytes long; the limit is {MAX_BYTES:,}", ""))
    text = decode(data, name)
    for char, called in (("\0", "a NUL character"), ("\ufeff", "a byte order mark in the middle")):
        if char in text:
            line = text[: text.index(char)].count("\n") + 1
            raise PipelineError(Problem(f"{name}:{line}", f"holds {called}", "remove it"))
    return text


class _Lines:
    """The lines of a Dockerfile, one after the other. Only a line feed ends one."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._last_ends = self._lines[-1] == ""
        if self._last_ends:
            self._lines.pop()
        self.number = 0

    def next(self) -> str | None:
        """Return the next line without its line feed, None at the end."""
        if self.number >= len(self._lines):
            return None
        self.number += 1
        return self._lines[self.number - 1]

    def heredoc(self, word: str, *, strip_tabs: bool) -> str | None:
        """Return the lines up to `word`, each with its line feed; None when it does not come."""
        body: list[str] = []
        while (line := self.next()) is not None:
            ending = line.rstrip("\r\n")
            if (ending.lstrip("\t") if strip_tabs else ending) == word:
                return "".join(body)
            body.append(line + "\n")
        return None


def _logical_line(lines: _Lines, directives: Directives, report: Report) -> tuple[int, str] | None:
    """Return the next instruction's line number and its text with the continuations joined, None at the end."""
    while (line := lines.next()) is not None:
        first = lines.number
        text = line.rstrip("\r\n").lstrip(BLANKS)
        directives.take(text, first, report)
        if text.startswith("#"):
            continue
        text, continues = _without_continuation(text, directives.escape)
        if not continues and not text:
            continue
        while continues and (line := lines.next()) is not None:
            piece = line.rstrip("\r\n")
            stripped = piece.lstrip(BLANKS)
            if not stripped or stripped.startswith("#"):
                continue
            piece, continues = _without_continuation(piece, directives.escape)
            text += piece
        return first, text
    return None


def _without_continuation(line: str, escape: str) -> tuple[str, bool]:
    """Take away an escape at the line's end, unless it is escaped itself; say whether there was one."""
    text = line.rstrip(" \t")
    if text.endswith(escape) and not text[:-1].endswith(escape):
        return text[:-1], True
    return line, False


def _instructions(lines: _Lines, directives: Directives, report: Report) -> Iterator[Instruction]:
    while (found := _logical_line(lines, directives, report)) is not None:
        number, line = found
        if len(line.encode()) > MAX_LINE:
            report(number, f"the instruction is longer than {MAX_LINE:,} bytes", "move what it does to a script")
            continue
        if not line.strip(BLANKS):  # only an escape
            report(number, "an escape character without an instruction", "remove it")
            continue
        try:
            instruction = _instruction(line, number, directives.escape)
            heredocs = [] if instruction is None else _heredocs(instruction, line, lines)
        except LexError as error:
            report(number, f"{line.split()[0]}: {error}", error.hint)
            continue
        if instruction is None:
            report(number, f"unknown instruction {line.split()[0]}", "see docs.docker.com/reference/dockerfile")
            continue
        instruction = replace(instruction, heredocs=tuple(heredocs))
        try:
            check_instruction(instruction, directives.escape)
        except LexError as error:
            report(number, f"{instruction.keyword}: {error}", error.hint or "see docs.docker.com/reference/dockerfile")
            continue
        yield instruction


def _instruction(line: str, number: int, escape: str) -> Instruction | None:
    """Split a line into keyword, flags and text; None for an unknown keyword."""
    keyword, *rest = FIELD_BLANKS.split(line.strip(BLANKS), maxsplit=1)
    if not keyword.isascii() or keyword.upper() not in KEYWORDS:
        return None
    flags, text = split_flags(rest[0] if rest else "", escape)
    text = text.strip(BLANKS)
    if _without_continuation(text, escape)[1]:
        raise LexError("ends in an escape character", "remove it: what follows could be read as a part of it")
    return Instruction(keyword.upper(), flags, text, number)


def _heredocs(instruction: Instruction, line: str, lines: _Lines) -> list[Heredoc]:
    """Read the heredocs that an instruction's line announces. Raises LexError for one that does not end."""
    inner = instruction
    if instruction.keyword == "ONBUILD":
        found = _instruction(instruction.text, instruction.line, "\\") if instruction.text else None
        if found is None:
            return []
        inner = found
    if inner.keyword not in HEREDOC_KEYWORDS or "<<" not in line or json_words(inner.text) is not None:
        return []
    heredocs: list[Heredoc] = []
    newer = announced_in(line, newer=True)
    agreed = newer == announced_in(line)
    for announced in newer:
        content = lines.heredoc(announced.name, strip_tabs=announced.strip_tabs)
        if content is None and agreed:
            raise LexError(f"the heredoc {announced.name} does not end", f"end it with a line {announced.name}")
        heredocs.append(Heredoc(announced.name, content or ""))
    if not agreed:
        what = "a blank behind << begins a heredoc in some BuildKit versions only"
        raise LexError(what, "write <<NAME, or put the << in quotes")
    return heredocs


def _stages(instructions: list[Instruction], report: Report) -> tuple[list[Instruction], list[Stage]]:
    global_args: list[Instruction] = []
    stages: list[Stage] = []
    body: list[Instruction] = []
    for instruction in instructions:
        if instruction.keyword == "FROM":
            if stages:
                stages[-1] = replace(stages[-1], instructions=tuple(body))
            body = []
            stages.append(_stage(instruction, stages, report))
        elif stages:
            body.append(instruction)
        elif instruction.keyword == "ARG":
            global_args.append(instruction)
        else:
            report(instruction.line, f"{instruction.keyword} before the first FROM", "only ARG may stand there")
    if stages:
        stages[-1] = replace(stages[-1], instructions=tuple(body))
    return global_args, stages


def _stage(instruction: Instruction, before: list[Stage], report: Report) -> Stage:
    words = instruction.words()
    named = len(words) == 3 and words[1].lower() == "as"  # noqa: PLR2004  FROM image AS name
    if len(words) != 1 and not named:
        report(instruction.line, "FROM needs one image", "FROM image [AS name]")
        words = ("scratch",)
    name = words[2].lower() if named else ""
    if name and (not _STAGE_NAME.fullmatch(name) or name in _RESERVED):
        hint = "begin with a letter; then letters, digits, '-', '_' and '.'; not 'scratch' or 'context'"
        report(instruction.line, f"'{words[2]}' cannot be the name of a stage", hint)
    if name and any(stage.name == name for stage in before):
        report(instruction.line, f"a second stage is called '{name}'", "give each stage its own name")
    return Stage(len(before), name, words[0], instruction.line, instruction.flag("platform"))
