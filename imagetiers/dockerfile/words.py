"""How instructions split their operands: at blanks, at blanks outside of quotes, or as a JSON array.

Source: moby/buildkit, frontend/dockerfile/parser/line_parsers.go.
"""

from __future__ import annotations

import json
import re

from imagetiers.dockerfile.expand import BLANKS, LexError
from imagetiers.documents import no_constant

__all__ = ["FIELD_BLANKS", "json_words", "plain_words", "quoted_words", "variable_names"]

# What ends a keyword and a path. Other blanks, such as a no-break space, are part of a word here.
FIELD_BLANKS = re.compile(r"[\t\v\f\r ]+")


def plain_words(text: str) -> tuple[str, ...]:
    """Return the operands of FROM, and those of COPY, ADD and VOLUME that are no JSON array."""
    return tuple(FIELD_BLANKS.split(text)) if text else ()


def json_words(text: str) -> tuple[str, ...] | None:
    """Return the strings of a JSON array; None when the text is none, and so is read as it stands.

    Raises LexError for an array with something else than strings in it, and for text behind an array, which older
    versions ignore and newer ones do not.
    """
    text = text.lstrip(BLANKS)
    if not text.startswith("["):
        return None
    try:
        value, end = json.JSONDecoder(parse_constant=no_constant).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if text[end:].strip(BLANKS):
        raise LexError(f"'{text[end:].strip(BLANKS)[:40]}' stands behind the JSON array")
    words: list[str] = []
    for word in value:
        if not isinstance(word, str):
            raise LexError("a JSON array here must hold strings only")
        if any("\ud800" <= char <= "\udfff" for char in word):
            raise LexError("half of a surrogate pair in a JSON string")
        words.append(word)
    return tuple(words)


def quoted_words(text: str, escape: str) -> list[str]:
    """Return the words of ARG, ENV and LABEL: split at blanks outside of quotes. Quotes and escapes stay in."""
    words: list[str] = []
    word, quote, begun, at = "", "", False, 0
    while at < len(text):
        char = text[at]
        at += 1
        if not quote and char in BLANKS:
            if begun:
                words.append(word)
            word, begun = "", False
            continue
        if not quote and char in "'\"":
            quote, begun = char, True
        elif char == quote:
            quote = ""
        elif char == escape and quote != "'":
            if at == len(text):
                break  # one at the very end is dropped
            word, char = word + char, text[at]
            at += 1
        word, begun = word + char, True
    if begun:
        words.append(word)
    return words


def variable_names(text: str) -> frozenset[str]:
    """Return the names behind a `$` or `${` in a text, wherever they stand: also those that quotes or escapes would hide."""
    names: set[str] = set()
    for piece in text.split("$")[1:]:
        rest = piece.removeprefix("{")
        end = next(
            (at for at, char in enumerate(rest) if not (char == "_" or (char.isascii() and char.isalnum()))), None
        )
        names.add(rest[:end])
    return frozenset(names - {""})
