"""Secrets in a stream of lines: what a build prints although it should not is masked before anybody sees it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

__all__ = ["Masker", "mask_lines"]

MASK = "***"
_SHORTEST = 4  # characters; what is shorter stands everywhere, and masking it would tell where
_SHORTEST_LINE = 8  # of a secret of several lines: "}" is not one


class Masker:
    """Takes lines, gives them back with `***` in the place of every secret.

    A secret is found on one line, over several (as it was written, or folded anywhere), and each line of one by itself. A
    line whose end may be the beginning of a secret is held back until it is clear: at most as many lines as the longest
    secret has characters.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        self._needles = tuple(sorted({needle for value in values for needle in _needles(value)}))
        self._longest = max(map(len, self._needles), default=0)
        self._held: list[str] = []
        self._ranges: set[tuple[int, int]] = set()  # what is masked, in the text of all that is held

    def feed(self, line: str) -> Iterator[str]:
        """Take a line; yield those that are clear now."""
        if not self._needles:
            yield line
            return
        self._held.append(line)
        text = "".join(self._held)
        self._ranges.update(span for needle in self._needles for span in _find(text, needle))
        open_at = min(_open_at(text, needle) for needle in self._needles)
        yield from self._give(len(text) if len(self._held) > self._longest else open_at)

    def close(self) -> Iterator[str]:
        """Yield what is held back: no more lines come."""
        yield from self._give(sum(map(len, self._held)))

    def _give(self, until: int) -> Iterator[str]:
        """Yield the lines that end before `until`, masked."""
        while self._held and len(self._held[0]) <= until:
            line = self._held.pop(0)
            yield _masked(line, self._ranges)
            until -= len(line)
            self._ranges = {(a - len(line), b - len(line)) for a, b in self._ranges if b > len(line)}


def mask_lines(lines: Iterable[str], values: Iterable[bytes]) -> list[str]:
    """Return as many lines, without the secrets of these values."""
    masker = Masker(values)
    return [*(clear for line in lines for clear in masker.feed(line)), *masker.close()]


def _needles(value: bytes) -> Iterator[str]:
    lines = [line.strip() for line in value.decode(errors="replace").splitlines()]
    whole = "".join(lines)
    if len(whole) >= _SHORTEST:
        yield whole
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= _SHORTEST_LINE)


def _find(text: str, needle: str) -> Iterator[tuple[int, int]]:
    at = text.find(needle)
    while at >= 0:
        yield at, at + len(needle)
        at = text.find(needle, at + 1)


def _open_at(text: str, needle: str) -> int:
    """Return where the longest end of the text begins that the needle may begin with; its length when there is none."""
    at = text.find(needle[0], max(0, len(text) - len(needle) + 1))
    while at >= 0 and not needle.startswith(text[at:]):
        at = text.find(needle[0], at + 1)
    return at if at >= 0 else len(text)


def _masked(line: str, ranges: Iterable[tuple[int, int]]) -> str:
    """Return the line without what lies in the ranges, which may overlap, begin before it and end after it."""
    inside = sorted((max(a, 0), min(b, len(line))) for a, b in ranges if max(a, 0) < min(b, len(line)))
    if not inside:
        return line
    merged = [inside[0]]
    for a, b in inside[1:]:
        if a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    edges = [(0, 0), *merged, (len(line), len(line))]
    return MASK.join(line[before:after] for (_, before), (after, _) in pairwise(edges))
