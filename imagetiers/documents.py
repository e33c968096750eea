"""Small JSON documents that others may have written: read without surprises, or not at all. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

__all__ = ["is_digest", "no_constant", "parse_object"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def parse_object(text: str | bytes) -> dict[str, Any] | None:
    """Return a JSON object; None for anything else, also for NaN, numbers of thousands of digits, and endless nesting."""
    try:
        document = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def no_constant(name: str) -> NoReturn:
    """Refuse NaN and infinities, which Python's json takes for numbers. Raises ValueError."""
    raise ValueError(name)


def is_digest(value: object) -> bool:
    """Say whether a value is a digest as registries write it: `sha256:` and 64 hex digits."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
