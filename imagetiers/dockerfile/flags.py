"""The flags of an instruction, `--name=value`, with quotes and escapes as BuildKit takes them away.

Source: moby/buildkit, frontend/dockerfile/parser/split_command.go.
"""

from __future__ import annotations

import re

from imagetiers.dockerfile.expand import BLANKS, LexError

__all__ = ["Flags", "flag_text", "split_flags"]

Flags = tuple[tuple[str, str], ...]
_NAME = re.compile(r"[a-z][a-z-]*")
_NEEDS_QUOTES = re.compile(r"[\s\"'\\]")


def split_flags(text: str, escape: str) -> tuple[Flags, str]:
    """Return the flags at the beginning of an instruction's text, and the rest. A flag without a value has ''.

    Raises LexError for what BuildKit's versions read differently.
    """
    flags: list[tuple[str, str]] = []
    at = 0
    while True:
        while at < len(text) and text[at] in BLANKS:
            at += 1
        if not text.startswith("--", at):
            return tuple(flags), text[at:]
        word, end = _word(text, at)
        written = text[at:end]
        if not written.isascii():
            raise LexError(f"the flag {written} is not ASCII: BuildKit reads flags byte by byte")
        if escape != "\\" and ("\\" in written or escape in written):
            raise LexError(f"the flag {written} has an escape: BuildKit's versions differ with '# escape={escape}'")
        flags.append(_flag(word))
        at = end


def _flag(word: str) -> tuple[str, str]:
    name, equals, value = word.removeprefix("--").partition("=")
    if not _NAME.fullmatch(name):
        raise LexError(f"'{word}' is not a flag")
    if equals and not value:
        raise LexError(f"the flag --{name}= has no value")
    return name, value


def _word(text: str, at: int) -> tuple[str, int]:
    """Return one word without its quotes and escapes, and where it ends."""
    word, quote = "", ""
    while at < len(text):
        char = text[at]
        if not quote and char in BLANKS:
            break
        at += 1
        if not quote and char in "'\"":
            quote = char
            continue
        if quote and char == quote:
            quote = ""
            continue
        if char == "\\":
            if at == len(text):
                break
            char = text[at]
            at += 1
        word += char
    if quote:
        raise LexError("a quote in a flag does not end")
    return word, at


def flag_text(name: str, value: str) -> str:
    """Return a flag so that it is read again as the same; one without a value as BuildKit needs it."""
    if not value:
        return f"--{name}"
    return f"--{name}={quoted(value)}"


def quoted(value: str) -> str:
    """Return a value, in quotes if it needs them."""
    if not _NEEDS_QUOTES.search(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
