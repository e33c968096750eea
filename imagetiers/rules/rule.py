"""A rule as a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from imagetiers.rules.subject import Subject

__all__ = ["Rule", "Severity", "Spot"]

Spot = tuple[int, str]
"""A line of the Dockerfile, and what is wrong there."""


class Severity(Enum):
    """ERROR: surely not meant, so `doit check` fails and nothing is pushed. WARNING: it costs, but may be meant."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: `why` says what it costs to leave things so, `fix` what to write instead, `look` finds the places."""

    id: str
    severity: Severity
    title: str
    why: str
    fix: str
    look: Callable[[Subject], Iterable[Spot]]
