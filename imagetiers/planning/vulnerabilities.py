"""What a scanner has found, held against what a pipeline lets pass. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import Any

from imagetiers.config.model import ScanPolicy, Waiver
from imagetiers.documents import parse_object
from imagetiers.planning.observed import Unknown

__all__ = ["NOTICE_DAYS", "Judged", "ScanReport", "SeverityLevel", "Vulnerability", "judge_scan", "read_report"]

NOTICE_DAYS = 14
_KINDS = {  # trivy's types of what is no package of a distribution
    **dict.fromkeys(("python-pkg", "pip", "pipenv", "poetry", "uv", "conda-pkg"), "python"),
    **dict.fromkeys(("node-pkg", "npm", "yarn", "pnpm", "bun"), "node"),
    **dict.fromkeys(("jar", "pom", "gradle", "sbt"), "java"),
    **dict.fromkeys(("gobinary", "gomod"), "go"),
    **dict.fromkeys(("rustbinary", "cargo"), "rust"),
    **dict.fromkeys(("gemspec", "bundler"), "ruby"),
}


class SeverityLevel(IntEnum):
    """How bad it is. What a database does not rate is UNKNOWN, and counts as much as the worst."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4
    UNKNOWN = 5


@dataclass(frozen=True, slots=True, order=True)
class Vulnerability:
    """A vulnerability of an installed package; `fixed` is the version that has it no more, '' where there is none.

    `kind` is the class of the package: os, python, node, java, go, rust, ruby or other.
    """

    id: str
    package: str
    version: str
    fixed: str
    severity: SeverityLevel
    kind: str = "os"

    def __str__(self) -> str:
        cure = f"fixed in {self.fixed}" if self.fixed else "no fix yet"
        return f"{self.id} ({self.severity.name.lower()}): {self.package} {self.version}, {cure}"


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What was found, by which scanner, with a database of which moment (ISO 8601)."""

    scanner: str
    database: str
    found: tuple[Vulnerability, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What of a report fails, was waived, or is let pass; waivers that ran out, or will within two weeks."""

    failing: tuple[Vulnerability, ...] = ()
    waived: tuple[Vulnerability, ...] = ()
    passed: tuple[Vulnerability, ...] = ()
    expired: tuple[Waiver, ...] = ()
    soon: tuple[Waiver, ...] = ()


def read_report(scanner: str, database: str, data: bytes, policy: ScanPolicy, now: float) -> ScanReport | Unknown:
    """Read trivy's JSON. What cannot be read, or is of an old database, is unknown: it would be taken for nothing found."""
    document = parse_object(data)
    try:
        age = timedelta(seconds=now) - (datetime.fromisoformat(database) - datetime.fromtimestamp(0, UTC))
        if age.total_seconds() > policy.max_age:
            return Unknown(f"the database is of {database}, and older than scan.max_age allows")
        if document is None or document["SchemaVersion"] != 2:  # noqa: PLR2004  trivy's
            return Unknown("the scanner's answer is no report of its second format")
        family = (document.get("Metadata") or {}).get("OS", {}).get("Family")
        if not isinstance(family, str) or family in {"", "none"}:
            return Unknown(
                "the scanner does not know the image's distribution, so it has looked at none of its packages"
            )
        results = document["Results"]
        found = {
            _vulnerability(entry, _kind(result)) for result in results for entry in result.get("Vulnerabilities") or ()
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return Unknown("the scanner's answer cannot be read")
    return ScanReport(scanner, database, tuple(sorted(found)))


def _kind(result: Any) -> str:
    """Return the class of the packages of a part of a report, by trivy's words for it."""
    if result.get("Class") == "os-pkgs":
        return "os"
    return _KINDS.get(str(result.get("Type")), "other")


def _vulnerability(entry: Any, kind: str) -> Vulnerability:
    severity = SeverityLevel[str(entry.get("Severity") or "UNKNOWN")]
    fixed = str(entry.get("FixedVersion") or "")
    return Vulnerability(
        str(entry["VulnerabilityID"]), str(entry["PkgName"]), str(entry["InstalledVersion"]), fixed, severity, kind
    )


def judge_scan(report: ScanReport, policy: ScanPolicy, waivers: Iterable[Waiver], tier: str, today: date) -> Judged:
    """Hold a report of a tier's image against the policy as of `today` (UTC)."""
    given = [waiver for waiver in waivers if waiver.vulnerability is not None and waiver.is_for(tier)]
    failing, waived, passed = [], [], []
    used: dict[Waiver, None] = {}
    for each in report.found:
        matching = [waiver for waiver in given if waiver.vulnerability == each.id]
        used.update(dict.fromkeys(matching))
        fail_on, unfixed = policy.of(each.kind)
        if each.severity < SeverityLevel[fail_on.upper()] or not (each.fixed or unfixed):
            passed.append(each)
        elif any(not _over(waiver, today) for waiver in matching):
            waived.append(each)
        else:
            failing.append(each)
    return Judged(
        failing=tuple(failing),
        waived=tuple(waived),
        passed=tuple(passed),
        expired=tuple(waiver for waiver in used if _over(waiver, today)),
        soon=tuple(w for w in used if not _over(w, today) and _over(w, today + timedelta(NOTICE_DAYS))),
    )


def _over(waiver: Waiver, day: date) -> bool:
    return waiver.until < day.isoformat()
