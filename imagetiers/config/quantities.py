"""Sizes, durations and ages as people write them."""

from __future__ import annotations

import re

__all__ = ["parse_age", "parse_duration", "parse_size"]

_DAY = 86_400  # seconds
_MOST = 1e30  # any number above it means as little
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Return bytes. K, M, G and T count in 1024s, and so do KiB, MiB...; KB, MB... count in 1000s. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(?:B|([KMGT])(i?B)?)?", text)
    if match is None:
        raise ValueError(text)
    number, unit, suffix = min(float(match[1]), _MOST), match[2] or "", match[3]
    if suffix == "B":
        return round(number * 1000.0 ** " KMGT".index(unit))
    return round(number * _UNITS[unit])


def parse_duration(text: str) -> int:
    """Return seconds: 90s, 45m, 3h, 3h30m. Raises ValueError."""
    match = re.fullmatch(r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?", text)
    if match is None or not text:
        raise ValueError(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_age(text: str) -> int:
    """Return seconds: 30d, 12h, 1d12h. Raises ValueError."""
    match = re.fullmatch(r"(?:([0-9]{1,4})d)?(?:([0-9]{1,4})h)?", text)
    if match is None or not text:
        raise ValueError(text)
    days, hours = (int(part or 0) for part in match.groups())
    return days * _DAY + hours * 3600
