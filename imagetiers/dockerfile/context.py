"""Which files of the build context a source of COPY, ADD or a bind mount means: patterns, folders, links.

Source: tonistiigi/fsutil copy.go (ResolveWildcards, links are followed), Go's path/filepath.Match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from imagetiers.dockerfile.expand import LexError

__all__ = ["Patterns", "Taken", "Tree", "clean", "has_wildcard"]

_MOST_LINKS = 255  # as containerd's RootPath


class Patterns(Enum):
    """How `*` and its like are read: not at all, as Go's filepath.Match does, or with `**` for any depth (--parents)."""

    NONE = "none"
    GO = "go"
    DEEP = "deep"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a source takes. `missing` are paths that a link on the way leads to, and that are not there."""

    paths: frozenset[str]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tree:
    """The files of a context: path to the target of a link, None for a file. Folders are those that hold a file."""

    files: Mapping[str, str | None]
    _folders: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folders", frozenset(parent for path in self.files for parent in _parents(path)))

    def take(self, source: str, patterns: Patterns) -> Taken:
        """Return what a source takes: the files, and the links on the way to them.

        Raises LexError for a pattern that is none.
        """
        parts = clean(source)
        special = (i for i, part in enumerate(parts) if patterns is not Patterns.NONE and has_wildcard(part))
        plain = next(special, len(parts))
        walked: set[str] = set()
        missing: list[str] = []
        start = self._resolve("/".join(parts[:plain]), walked, missing)
        if start is None:
            return Taken(frozenset(walked), tuple(missing))
        roots = [start]
        if plain < len(parts):
            pattern = _pattern("/".join(parts[plain:]), deep=patterns is Patterns.DEEP)
            roots = []
            for match in self._matches(start, pattern):
                resolved = self._resolve(match, walked, missing)
                roots += [] if resolved is None else [resolved]
        return Taken(frozenset(walked).union(*(self._below(root) for root in roots)), tuple(missing))

    def _resolve(self, path: str, walked: set[str], missing: list[str]) -> str | None:
        """Follow the links in a path, the last part too; None when it leads nowhere. Notes the links in `walked`."""
        todo, done = [part for part in path.split("/") if part], ""
        links = 0
        while todo:
            part = todo.pop(0)
            if part in {"", "."}:
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}" if done else part
            target = self.files.get(here)
            if target is None:
                done = here
                continue
            walked.add(here)
            links += 1
            if links > _MOST_LINKS:
                raise LexError(f"the links at '{path}' lead in a circle")
            if target.startswith("/"):
                done = ""
            todo = [*target.split("/"), *todo]
        if done and done not in self.files and done not in self._folders:
            if links:
                missing.append(done)
            return None
        return done

    def _matches(self, start: str, pattern: re.Pattern[str]) -> Iterable[str]:
        """Yield what matches below a folder. What lies in a matched folder is not looked at, as in BuildKit."""
        prefix = f"{start}/" if start else ""
        entries = sorted({*self.files, *self._folders}, key=lambda entry: entry.split("/"))
        found = ""
        for entry in entries:
            if not entry.startswith(prefix) or (found and entry.startswith(found)):
                continue
            if pattern.fullmatch(entry.removeprefix(prefix)):
                yield entry
                found = f"{entry}/" if entry in self._folders else ""

    def _below(self, root: str) -> Iterable[str]:
        prefix = f"{root}/" if root else ""
        return [path for path in self.files if path == root or path.startswith(prefix)]


def clean(path: str) -> tuple[str, ...]:
    """Return the parts of a source: BuildKit roots every one at the context, and `..` ends there."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return tuple(parts)


def _parents(path: str) -> Iterable[str]:
    while path:
        path = path.rpartition("/")[0]
        yield path


def has_wildcard(part: str) -> bool:
    """Say whether a path holds an unescaped `*`, `?` or `[`."""
    at = 0
    while at < len(part):
        if part[at] == "\\":
            at += 1
        elif part[at] in "*?[":
            return True
        at += 1
    return False


def _pattern(pattern: str, *, deep: bool) -> re.Pattern[str]:
    r"""Translate a pattern of Go's filepath.Match: `*` and `?` do not cross a `/`, `[^a-z]` is a class, `\` escapes.

    In a `deep` one `**/` stands for any number of folders, and `**` at the end for all below.

    Raises LexError for a malformed one, with which BuildKit finds nothing and says nothing.
    """
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if deep and char == "*" and pattern.startswith("*/", at):
            out, at = out + "(?:.*/)?", at + 2
        elif deep and char == "*" and pattern.startswith("*", at):
            out, at = out + ".*", at + 1
        elif char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            text, at = _class(pattern, at)
            out += text
        elif char == "\\":
            if at == len(pattern):
                raise LexError(f"the pattern '{pattern}' ends in an escape")
            out += re.escape(pattern[at])
            at += 1
        else:
            out += re.escape(char)
    return re.compile(out, re.DOTALL)


def _class(pattern: str, at: int) -> tuple[str, int]:
    negated = pattern.startswith("^", at)
    at += negated
    ranges = ""
    while not (ranges and pattern.startswith("]", at)):
        low, at = _class_char(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _class_char(pattern, at + 1)
        if low > high:
            raise LexError(f"the range '{low}-{high}' in the pattern '{pattern}' is empty")
        ranges += f"{re.escape(low)}-{re.escape(high)}"
    return (f"[^{ranges}]" if negated else f"[{ranges}]"), at + 1


def _class_char(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at : at + 1]
    if not char or char in "-]":
        raise LexError(f"the pattern '{pattern}' has a malformed [class]")
    if char == "\\":
        at += 1
        char = pattern[at : at + 1]
    if not char or at + 1 >= len(pattern):
        raise LexError(f"the pattern '{pattern}' has a [class] that does not end")
    return char, at + 1
