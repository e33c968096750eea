"""`.dockerignore`: which files of a folder are no part of it as a build context.

Source: moby/patternmatcher (patternmatcher.go, ignorefile/ignorefile.go). Of several patterns that match a path, or a folder
above it, the last one decides. What would be read as a regular expression there, by accident, is an error here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imagetiers.errors import PipelineError, Problem
from imagetiers.repository_file import decode

__all__ = ["IGNORE_FILE", "Ignored", "read_ignore_file"]

IGNORE_FILE = ".dockerignore"
_ACCIDENTS = frozenset("+(){}|^")
_WILD = frozenset("*?[\\")


@dataclass(frozen=True, slots=True)
class Ignored:
    """The patterns of a file in order, each with whether it takes files back in."""

    patterns: tuple[tuple[re.Pattern[str], bool], ...] = ()

    def kept(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield those of the paths that are part of the context."""
        for path in paths:
            parts = path.split("/")
            ways = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
            ignored = False
            for pattern, back in self.patterns:
                if ignored == back and any(pattern.fullmatch(way) for way in ways):
                    ignored = not back
            if not ignored:
                yield path


def read_ignore_file(data: bytes, name: str, problems: list[Problem]) -> Ignored:
    """Read a file that messages call `name`; adds to `problems` what is wrong."""
    try:
        text = decode(data, name)
    except PipelineError as error:
        problems.extend(error.problems)
        return Ignored()
    patterns: list[tuple[re.Pattern[str], bool]] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or raw.startswith("#"):
            continue
        back = line.startswith("!")
        written = line[1:].strip() if back else line
        cleaned = posixpath.normpath(written).lstrip("/") if written else ""
        try:
            patterns.append((_translate(cleaned), back))
        except ValueError as error:
            problems.append(Problem(f"{name}:{number}", f"'{line[:_SHOWN]}' {error}", _CURE))
    return Ignored(tuple(patterns))


_SHOWN = 60  # characters of a line in a message
_CURE = "write a path from this folder, with *, ?, ** and [a-z]"


def _translate(pattern: str) -> re.Pattern[str]:
    """Translate a pattern. Raises ValueError with what is wrong with it."""
    if not pattern:
        raise ValueError("names no file")
    if _WILD & set(pattern) and _ACCIDENTS & set(pattern):
        raise ValueError("has a character that BuildKit takes for part of a regular expression")
    out, at = "", 0
    while at < len(pattern):
        text, at = _token(pattern, at)
        out += text
    return re.compile(out, re.DOTALL)


def _token(pattern: str, at: int) -> tuple[str, int]:
    """Translate what begins at `at`; return it and where it ends. Raises ValueError."""
    char, end = pattern[at], at + 1
    if pattern.startswith("**", at):
        end += 2 if pattern.startswith("/", at + 2) else 1
        return (".*" if end == len(pattern) else "(?:.*/)?"), end
    if char in "*?":
        return "[^/]" + ("*" if char == "*" else ""), end
    if char == "[":
        return _class(pattern, end)
    if char == "\\":
        if end == len(pattern):
            raise ValueError("ends in an escape")
        char, end = pattern[end], end + 1
    return re.escape(char), end


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Translate the class behind a `[` at `at`; return it and where it ends. Raises ValueError."""
    end = pattern.find("]", at)
    inner = pattern[at:end] if end > at else ""
    if not inner or re.fullmatch(r"(?:[A-Za-z0-9_.]-[A-Za-z0-9_.]|[A-Za-z0-9_.])+", inner) is None:
        raise ValueError("has a [class] that is more than letters, digits, '_', '.' and their ranges")
    try:
        return re.compile(f"[{inner}]").pattern, end + 1
    except re.error:
        raise ValueError(f"has the range [{inner}], which is empty") from None
