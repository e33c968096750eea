"""Lines of `.image-manifest`: which files are a tier's inputs, one path or glob a line. Pure."""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from imagetiers.errors import PipelineError, Problem
from imagetiers.repository_file import decode

__all__ = ["ManifestLine", "read_manifest", "wrong_pattern"]

_SPECIAL = re.compile(r"[*?\[]")
_MOST_DEEP = 4  # each `**` is tried at every place of a path


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """One line of a manifest: its number (from 1) and pattern; `exclude` for `!`, `from_root` for `//`."""

    number: int
    pattern: str
    exclude: bool = False
    from_root: bool = False

    @property
    def start(self) -> str:
        """The file or folder that all lie in, or at, which this line can mean: its pattern up to the first special part."""
        parts = self.pattern.split("/")
        return "/".join(parts[: next((at for at, part in enumerate(parts) if _SPECIAL.search(part)), len(parts))])

    def among(self, paths: Sequence[str]) -> list[str]:
        """Return those of the sorted paths (relative, with `/`) that this line means, in order.

        A line that is the name of a file or folder looks it up: a manifest may name thousands of files one by one.
        """
        if _SPECIAL.search(self.pattern):
            glob = _glob(self.pattern)
            return [path for path in paths if glob.fullmatch(path)]
        at = bisect_left(paths, self.pattern)
        found = [self.pattern] if at < len(paths) and paths[at] == self.pattern else []
        below = f"{self.pattern}/"
        at = bisect_left(paths, below)
        while at < len(paths) and paths[at].startswith(below):
            found.append(paths[at])
            at += 1
        return found


def read_manifest(data: bytes, name: str, problems: list[Problem]) -> Iterator[ManifestLine]:
    """Yield the lines of a manifest, which messages call `name`; adds to `problems` what is wrong."""
    try:
        text = decode(data, name)
    except PipelineError as error:
        problems.extend(error.problems)
        return
    seen: dict[tuple[str, bool], ManifestLine] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        exclude = line.startswith("!")
        line = line[1:].strip() if exclude else line
        from_root = line.startswith("//")
        pattern = (line[2:] if from_root else line.removeprefix("./")).rstrip("/")
        made = ManifestLine(number, pattern, exclude, from_root)
        earlier = seen.setdefault((pattern, from_root), made)
        wrong = wrong_pattern(pattern, from_root=from_root) or _wrong_together(earlier, made)
        if wrong is not None:
            shown = raw.strip() if len(raw) <= _SHOWN else f"{raw.strip()[:_SHOWN]}…"
            problems.append(Problem(f"{name}:{number}", f"'{shown}' {wrong[0]}", wrong[1]))
            continue
        yield made


_SHOWN = 60  # characters of a line in a message
_LONGEST_NAME = 255  # bytes


def wrong_pattern(pattern: str, *, from_root: bool = False) -> tuple[str, str] | None:  # noqa: PLR0911  one return a rule
    """Say what is wrong with a pattern of a manifest, and the cure; None for a good one."""
    if pattern in {"", "."}:
        return "names no file", "write ** for all that lies in the folder, or remove the line"
    if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
        hint = "write it relative to the tier's folder, or //path from the repository's root"
        return "leaves the tier's folder", hint
    if any(not char.isprintable() and char != "\t" for char in pattern):
        return "holds a character that cannot be seen", "remove it"
    if any(len(part.encode()) > _LONGEST_NAME for part in pattern.split("/")):
        return f"has a part of more than {_LONGEST_NAME} bytes, as no file's name has", "write a shorter pattern"
    if from_root and any(char in pattern.split("/", maxsplit=1)[0] for char in "*?["):
        return "begins with a pattern", "after // write the name of a file or folder first; patterns may follow"
    try:
        _glob(pattern)
    except ValueError as error:
        return str(error), "[abc], [a-z] or [!abc]; write [[] for the bracket itself"
    if len(re.findall(r"\*\*+", re.sub(r"(\*\*/)+", "**/", pattern))) > _MOST_DEEP:
        return f"has more than {_MOST_DEEP} times '**'", "write several lines"
    if " #" in pattern:
        return "holds a '#', which begins no comment here", "a comment stands on a line of its own"
    return None


def _wrong_together(earlier: ManifestLine, line: ManifestLine) -> tuple[str, str] | None:
    """Say what is wrong with two lines of one pattern: of a contradiction the last would win, and nobody would see it."""
    if earlier is line:
        return None
    if earlier.exclude == line.exclude:
        return f"stands there twice: line {earlier.number} says the same", "remove one of the two lines"
    what = "takes away" if line.exclude else "lists"
    before = "takes away" if earlier.exclude else "lists"
    return f"{what} what line {earlier.number} {before}", "remove one of the two lines"


_DEEP, _ANY, _STAR = "(?:.*/)?", ".*", "[^/]*"


@functools.cache
def _glob(pattern: str) -> re.Pattern[str]:
    """Translate a pattern; what it matches includes everything below a matched folder. Raises ValueError.

    Between two stars of one name the first place that fits is as good as any, so no match goes back behind it: a line of
    many stars would else take time without end.
    """
    tokens = list(_tokens(pattern))
    out, at = "", 0
    while at < len(tokens):
        token, end = tokens[at], at + 1
        while token == _STAR and end < len(tokens) and tokens[end] not in {_DEEP, _ANY, _STAR, "/"}:
            end += 1
        between = "".join(tokens[at + 1 : end])
        if token == _STAR and end < len(tokens) and tokens[end] in {_STAR, _ANY}:
            out += f"(?>[^/]*?{between})"
        else:
            out += token + between
        at = end
    return re.compile(f"{out}(?:/.*)?", re.DOTALL)


def _tokens(pattern: str) -> Iterator[str]:
    """Yield the pieces of a pattern as regular expressions, each but the stars for one character. Raises ValueError."""
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            while pattern.startswith("**/", at):  # one means as much as many
                at += 3
            yield _DEEP
        elif pattern.startswith("**", at):
            at += 2
            yield _ANY
        elif pattern[at] == "[":
            text, at = _class(pattern, at)
            yield text
        else:
            yield {"*": _STAR, "?": "[^/]", "/": "/"}.get(pattern[at]) or re.escape(pattern[at])
            at += 1


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Translate the class that begins at `at`; return it and where it ends. Raises ValueError."""
    end = pattern.find("]", at + 2)
    if end < 0:
        raise ValueError("has a [ without its ]")
    inner = pattern[at + 1 : end]
    negated = inner[0] in "!^" and len(inner) > 1
    text = "".join("\\" + char if char in "\\^[&~|" else char for char in inner[negated:])
    try:
        re.compile(f"[{text}]")
    except re.error:
        raise ValueError(f"has the range [{inner}], which is empty") from None
    return (f"[^/{text}]" if negated else f"[{text}]"), end + 1
