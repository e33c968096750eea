"""Dockerfiles read as BuildKit reads them: the `escape` directive, continuations, comments, heredocs, flags.

Source: moby/buildkit, frontend/dockerfile/parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagetiers.dockerfile import Dockerfile, Instruction, Stage, arg_words
from imagetiers.errors import PipelineError, Problem

__all__ = ["parse_dockerfile"]

MAX_BYTES = 1 << 20

_KEYWORDS = frozenset(
    [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)
_WITH_HEREDOC = frozenset({"ADD", "COPY", "RUN"})
_HEREDOC = re.compile(r"<<(-?)\s*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")


def parse_dockerfile(data: bytes, name: str) -> Dockerfile:
    """Read a Dockerfile; `name` is what messages call it. Raises PipelineError with every problem of its form."""
    problems: list[Problem] = []
    if len(data) > MAX_BYTES:
        raise PipelineError(Problem(name, f"is {len(data):,} bytes long; the limit is {MAX_BYTES:,}", ""))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(Problem(name, f"byte {error.start} is not UTF-8", "save the file as UTF-8")) from None

    global_args: list[tuple[str, str | None]] = []
    stages: list[Stage] = []
    body: list[Instruction] = []
    for instruction in _instructions(text, name, problems):
        if instruction.keyword == "FROM":
            _close(stages, body)
            _open(stages, instruction, name, problems)
        elif stages:
            body.append(instruction)
        elif instruction.keyword == "ARG":
            global_args.extend(arg_words(instruction))
        else:
            where = f"{name}:{instruction.line}"
            problems.append(Problem(where, f"{instruction.keyword} before the first FROM", "only ARG may stand there"))
    _close(stages, body)
    if not stages and not problems:
        problems.append(Problem(name, "there is no FROM in it", "a Dockerfile begins with FROM"))
    PipelineError.raise_if(problems)
    return Dockerfile(name, tuple(global_args), tuple(stages))


def _open(stages: list[Stage], instruction: Instruction, name: str, problems: list[Problem]) -> None:
    words = instruction.words()
    where = f"{name}:{instruction.line}"
    named = len(words) == 3 and words[1].lower() == "as"  # noqa: PLR2004  FROM image AS name
    if len(words) != 1 and not named:
        problems.append(Problem(where, "FROM needs one image", "FROM image [AS name]"))
        words = (*words, "scratch")
    stage_name = words[2].lower() if named else ""
    if stage_name and any(stage.name == stage_name for stage in stages):
        problems.append(Problem(where, f"a second stage is called '{stage_name}'", "give each stage its own name"))
    stages.append(Stage(len(stages), stage_name, words[0], instruction.line, instruction.flag("platform")))


def _close(stages: list[Stage], body: list[Instruction]) -> None:
    if stages:
        last = stages[-1]
        stages[-1] = Stage(last.index, last.name, last.base, last.line, last.platform, tuple(body))
    body.clear()


class _Cursor:
    """Walks the lines of a Dockerfile, joining what belongs to one instruction."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.escape = _escape_directive(self.lines)
        self.number = 0

    def instruction(self) -> tuple[int, str] | None:
        """Return the next instruction's line number and text, continuations joined, or None at the end."""
        self._skip()
        if self.number >= len(self.lines):
            return None
        first, joined = self.number + 1, ""
        while self.number < len(self.lines):
            line = self.lines[self.number].rstrip()
            self.number += 1
            if not line.endswith(self.escape):
                return first, (joined + line).strip()
            joined += line[:-1]
            self._skip()
        return first, joined.strip()

    def heredoc(self, word: str, *, strip_tabs: bool) -> str | None:
        """Return the lines up to `word`, or None when it does not come."""
        body: list[str] = []
        while self.number < len(self.lines):
            line = self.lines[self.number]
            self.number += 1
            if (line.lstrip("\t") if strip_tabs else line) == word:
                return "\n".join(body)
            body.append(line)
        return None

    def _skip(self) -> None:
        while self.number < len(self.lines):
            line = self.lines[self.number].strip()
            if line and not line.startswith("#"):
                return
            self.number += 1


def _instructions(text: str, name: str, problems: list[Problem]) -> Iterator[Instruction]:
    cursor = _Cursor(text)
    while (found := cursor.instruction()) is not None:
        first, line = found
        where = f"{name}:{first}"
        keyword, *after = line.split(maxsplit=1)
        keyword, rest = keyword.upper(), after[0] if after else ""
        heredocs: list[str] = []
        for dash, _, word in _HEREDOC.findall(rest) if keyword in _WITH_HEREDOC else ():
            body = cursor.heredoc(word, strip_tabs=bool(dash))
            if body is None:
                problems.append(Problem(where, f"the heredoc {word} does not end", f"end it with a line {word}"))
            heredocs.append(body or "")
        if keyword not in _KEYWORDS:
            hint = "see docs.docker.com/reference/dockerfile"
            problems.append(Problem(where, f"unknown instruction {keyword}", hint))
            continue
        flags, operands = _flags(rest)
        yield Instruction(keyword, flags, operands, first, tuple(heredocs))


def _escape_directive(lines: list[str]) -> str:
    for line in lines:
        match = re.fullmatch(r"#\s*([a-zA-Z]+)\s*=\s*(\S+)\s*", line.strip())
        if match is None:
            break
        if match[1].lower() == "escape" and match[2] in {"\\", "`"}:
            return match[2]
    return "\\"


def _flags(rest: str) -> tuple[tuple[tuple[str, str], ...], str]:
    flags: list[tuple[str, str]] = []
    while match := re.match(r"--([a-z][a-z-]*)(?:=(\"[^\"]*\"|\S*))?(?:\s+|$)", rest):
        flags.append((match[1], (match[2] or "").strip('"')))
        rest = rest[match.end() :]
    return tuple(flags), rest
