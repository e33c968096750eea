"""Variable expansion in Dockerfiles, after BuildKit's shell/lex.go: `$x ${x} ${x:-y} ${x-y} ${x:+y} ${x+y} ${x:?e}`."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["Unresolved", "expand"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unresolved(Exception):  # noqa: N818  a state of knowledge, turned into a Problem by the caller
    """An argument has no value here, or the expression is one that is not understood; the text is the argument."""


def expand(word: str, values: Mapping[str, str], *, strict: bool = False) -> str:
    """Return `word` with its variables replaced, quotes and escapes removed.

    A variable without a value becomes the empty text, or raises Unresolved when `strict`.
    """
    text, rest = _expand(word, values, stop="", strict=strict)
    return text if not rest else text + rest


def _expand(word: str, values: Mapping[str, str], *, stop: str, strict: bool) -> tuple[str, str]:
    """Expand up to the first unquoted `stop` character; return the result and what follows the stop."""
    out: list[str] = []
    i, quote = 0, ""
    while i < len(word):
        char = word[i]
        if char == stop and not quote and stop:
            return "".join(out), word[i + 1 :]
        if char == "\\" and quote != "'" and i + 1 < len(word):
            out.append(word[i + 1])
            i += 2
        elif char == quote:
            quote, i = "", i + 1
        elif char in "'\"" and not quote:
            quote, i = char, i + 1
        elif char == "$" and quote != "'":
            value, rest = _variable(word[i + 1 :], values, strict=strict)
            out.append(value)
            word, i = rest, 0
        else:
            out.append(char)
            i += 1
    if stop:
        raise Unresolved("${ without }")
    return "".join(out), ""


def _variable(text: str, values: Mapping[str, str], *, strict: bool) -> tuple[str, str]:
    if not text.startswith("{"):
        match = _NAME.match(text)
        return ("$", text) if match is None else (_value(match[0], values, strict=strict), text[match.end() :])
    match = _NAME.match(text, 1)
    if match is None:
        raise Unresolved("$" + text)
    name, rest = match[0], text[match.end() :]
    if rest.startswith("}"):
        return _value(name, values, strict=strict), rest[1:]
    operator = re.match(r":?[-+?]", rest)
    if operator is None:  # ${x#pattern} and friends: only in newer frontends
        raise Unresolved(name)
    is_set = bool(values.get(name)) if operator[0].startswith(":") else name in values
    kind = operator[0][-1]
    alternative, after = _expand(rest[operator.end() :], values, stop="}", strict=strict and kind == "-" and not is_set)
    if kind == "-":
        return (values[name] if is_set else alternative), after
    if kind == "+":
        return (alternative if is_set else ""), after
    if not is_set:
        raise Unresolved(name)
    return values[name], after


def _value(name: str, values: Mapping[str, str], *, strict: bool) -> str:
    if strict and name not in values:
        raise Unresolved(name)
    return values.get(name, "")
