"""Sizes and times as people read them. Pure."""

from __future__ import annotations

__all__ = ["age_text", "size_text"]


def size_text(size: int) -> str:
    """Return a size in bytes as people read it, in powers of 1000 as Docker does."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= length:
            return f"{size / length:.3g} {unit}"
    return f"{size} B"


def age_text(seconds: float) -> str:
    """Return an age as people say it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
