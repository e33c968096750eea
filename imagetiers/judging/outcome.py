"""What came out of a check, and whose check counts where tiers ask the same thing otherwise. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from imagetiers.config.checks import Checks, Declared

__all__ = ["CheckOutcome", "by_name", "compare", "listed", "nearest", "union"]

_SHOWN = 12
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """A check and how it went: the `tier` that asked, the check's name, and what is wrong, "" if nothing is."""

    tier: str
    check: str
    problem: str = ""
    hint: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem


def nearest(declared: Sequence[Declared], of: Callable[[Checks], _T | None]) -> tuple[str, _T] | None:
    """Return what the youngest tier asks that asks it, and which tier that is. `declared` is eldest first."""
    for each in reversed(declared):
        value = of(each.checks)
        if value is not None:
            return each.tier, value
    return None


def by_name(declared: Iterable[Declared], of: Callable[[Checks], Mapping[str, _T]]) -> dict[str, tuple[str, _T]]:
    """Return what is asked of each name, and by which tier: the youngest one's word counts."""
    return {name: (each.tier, value) for each in declared for name, value in of(each.checks).items()}


def union(declared: Iterable[Declared], of: Callable[[Checks], Iterable[_T]]) -> dict[_T, str]:
    """Return all that is asked, and the eldest tier that asks it."""
    found: dict[_T, str] = {}
    for each in declared:
        for value in of(each.checks):
            found.setdefault(value, each.tier)
    return found


def compare(tier: str, check: str, found: str, wanted: str, hint: str = "") -> CheckOutcome:
    """Say whether two texts are the same."""
    return CheckOutcome(tier, check, "" if found == wanted else f"{check} is {found or 'not set'}, not {wanted}", hint)


def listed(what: str, found: Iterable[str]) -> str:
    """Return what was found, a line each and the first ones alone; "" for nothing."""
    lines = list(found)
    more = [f"(and {len(lines) - _SHOWN:,} more)"] if len(lines) > _SHOWN else []
    return f"{what}:\n" + "\n".join(f"    {line}" for line in [*lines[:_SHOWN], *more]) if lines else ""
