"""Findings against waivers: what fails, what is only said, and what was waived. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from imagetiers.config.model import Waiver
from imagetiers.rules.finding import Finding

__all__ = ["NOTICE_DAYS", "Weighed", "weigh"]

NOTICE_DAYS = 14
"""A waiver that runs out so soon is reported."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """What findings come to. `expired` are waivers of something that is still there; `unused` are those of nothing."""

    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    waived: tuple[Finding, ...] = ()
    expired: tuple[Waiver, ...] = ()
    soon: tuple[Waiver, ...] = ()
    unused: tuple[Waiver, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether nothing was found that must not be."""
        return not self.errors and not self.expired


def weigh(findings: Iterable[Finding], waivers: Iterable[Waiver], today: date) -> Weighed:
    """Hold findings against waivers as of `today` (UTC); both in their order."""
    given = tuple(waiver for waiver in waivers if waiver.vulnerability is None)
    left = dict.fromkeys(given, False)
    sorted_out: dict[str, list[Finding]] = {"errors": [], "warnings": [], "waived": []}
    for finding in findings:
        matching = [waiver for waiver in given if _matches(waiver, finding)]
        left.update(dict.fromkeys(matching, True))
        waived = any(not _over(waiver, today) for waiver in matching)
        sorted_out["waived" if waived else "errors" if finding.is_error else "warnings"].append(finding)
    used = [waiver for waiver, has_matched in left.items() if has_matched]
    return Weighed(
        errors=tuple(sorted_out["errors"]),
        warnings=tuple(sorted_out["warnings"]),
        waived=tuple(sorted_out["waived"]),
        expired=tuple(waiver for waiver in used if _over(waiver, today)),
        soon=tuple(w for w in used if not _over(w, today) and _over(w, today + timedelta(NOTICE_DAYS))),
        unused=tuple(waiver for waiver, has_matched in left.items() if not has_matched),
    )


def _matches(waiver: Waiver, finding: Finding) -> bool:
    return finding.rule in {waiver.rule, waiver.hadolint} and waiver.is_for(finding.tier)


def _over(waiver: Waiver, day: date) -> bool:
    return waiver.until < day.isoformat()
