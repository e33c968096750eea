r"""Make text safe to show: what moves a cursor, sets a title or turns letters around is written out instead. Pure.

Names, logs and heads are other people's, and a terminal obeys what it is sent. Control characters (C0, DEL, C1), the
bidirectional controls, other invisible format characters, line separators and lone surrogates become `\x1b`, `\u202e`; a
tab and a line's end stay, and so do the joiners that names and emoji are written with. Colours are left out.
"""

from __future__ import annotations

import re

__all__ = ["visible", "visible_json"]

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
_SHORT = {"\r": r"\r", "\x00": r"\0"}


def visible(text: str) -> str:
    """Return the text as a terminal may have it."""
    return _HIDDEN.sub(_escape, _COLOUR.sub("", text))


def visible_json(text: str) -> str:
    """Return a JSON document that means the same and holds none of these characters."""
    return _HIDDEN.sub(_json_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] in _SHORT:
        return _SHORT[match[0]]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:  # noqa: PLR2004  the basic plane; beyond it JSON wants two halves
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
