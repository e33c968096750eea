"""What came out of a check, and whose check counts where tiers ask the same thing otherwise. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from imagetiers.config.checks import Checks, Declared
from imagetiers.config.model import Trust

__all__ = [
    "CheckOutcome",
    "FailedCheck",
    "FailedVerdict",
    "by_name",
    "compare",
    "failed_checks",
    "listed",
    "nearest",
    "union",
]

_SHOWN = 12
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """A check and how it went: the `tier` that asked, the check's name, and what is wrong, "" if nothing is.

    Where one problem tells of several checks, of a script, `failures` are their names and what the script said of each.
    """

    tier: str
    check: str
    problem: str = ""
    hint: str = ""
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check that has failed: the `tier` that asks it, its name, and what was wrong, of which the first line is kept."""

    tier: str
    check: str
    line: str


@dataclass(frozen=True, slots=True)
class FailedVerdict:
    """That an image has not passed its checks, when (Unix seconds), and the first of those that failed; `more` are not kept.

    `by` is the label of the trust of the build that has checked it.
    """

    at: float
    by: str
    checks: tuple[FailedCheck, ...]
    more: int = 0

    @property
    def whose(self) -> str:
        """The end of a sentence about it: whose build it was, where that was no trusted one."""
        return "" if self.by == Trust().label else f", in a build of {self.by}"

    def __str__(self) -> str:
        others = len(self.checks) - 1 + self.more
        return f"checks failed: {self.checks[0].check}" + (f" (+{others:,})" if others else "")


def failed_checks(outcomes: Iterable[CheckOutcome]) -> Iterator[FailedCheck]:
    """Yield what has failed, a script's checks one by one."""
    for outcome in outcomes:
        if not outcome.passed:
            told = outcome.failures or ((outcome.check, outcome.problem),)
            for name, text in told:
                yield FailedCheck(outcome.tier, name, text or outcome.problem)


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
