"""Words that announce a heredoc: `<<EOF`, `<<-EOF`, `3<<"EOF"`.

Source: moby/buildkit, frontend/dockerfile/parser/parser.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagetiers.dockerfile.expand import LexError, lex_words

__all__ = ["Announced", "announced_by", "announced_in"]

_OLDER = re.compile(r"\d*<<(-?)([^<]*)", re.DOTALL)
_NEWER = re.compile(r"\d*<<(-?)[\t\n\f\r ]*([^<]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Announced:
    """A heredoc that a line announces: the line that ends it, and whether leading tabs are taken away."""

    name: str
    strip_tabs: bool


def announced_by(word: str) -> Announced | None:
    """Return the heredoc that a single word announces. Raises LexError for quotes in it that do not end."""
    return _announced(word, _OLDER)


def announced_in(line: str, *, newer: bool = False) -> list[Announced]:
    """Return the heredocs of a whole instruction, in order, as older or `newer` versions of BuildKit find them.

    A here-string `<<<`, `1<<N` in quotes and a `<<` within a word announce none.
    """
    try:
        words = lex_words(line, raw=True, spaced_heredocs=newer)
    except LexError:
        return []  # BuildKit looks no further where quotes do not end
    pattern = _NEWER if newer else _OLDER
    return [found for word in words if (found := _announced(word, pattern)) is not None]


def _announced(word: str, pattern: re.Pattern[str]) -> Announced | None:
    match = pattern.fullmatch(word)
    if match is None or not match[2]:
        return None
    names = lex_words(match[2], raw=False)
    return Announced(names[0], bool(match[1])) if len(names) == 1 else None
