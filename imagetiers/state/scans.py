"""What scans of images have found, beside the verdicts on these images in the cache. They gate nothing: a push scans anew."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product

from imagetiers.config.model import Trust
from imagetiers.documents import parse_object
from imagetiers.errors import NotFoundError, StoreError
from imagetiers.planning.plan import TierPlan
from imagetiers.planning.vulnerabilities import Judged, ScanReport, SeverityLevel, Vulnerability
from imagetiers.session import Session

__all__ = ["KeptScan", "keep_scan", "kept_scan"]

_LATEST = 1e11  # Unix seconds: what is later is no time
_MOST = 5_000  # vulnerabilities that are kept of an image, the worst first


@dataclass(frozen=True, slots=True)
class KeptScan:
    """What was found in an image, when (Unix seconds), and what of it failed or was waived at that time, by id."""

    report: ScanReport
    at: float
    failing: frozenset[str] = frozenset()
    waived: frozenset[str] = frozenset()


def keep_scan(session: Session, tier: TierPlan, image: str, report: ScanReport, judged: Judged) -> None:
    """Write it. A cache that does not take it costs a line, never the scan."""
    worst = sorted(report.found, key=lambda each: (-each.severity, each))[:_MOST]
    document = {
        "tier": tier.name,
        "key": tier.key,
        "at": round(session.services.now()),
        "scanner": report.scanner,
        "database": report.database,
        "found": [[each.id, each.package, each.version, each.fixed, each.severity.name, each.kind] for each in worst],
        "failing": sorted({each.id for each in judged.failing}),
        "waived": sorted({each.id for each in judged.waived}),
    }
    try:
        session.services.store.write(_name(image, session.trust), json.dumps(document, sort_keys=True).encode())
    except StoreError as error:
        session.services.console.line(f"scan:{tier.name}: what it has found was not kept in the cache: {error}")


def kept_scan(session: Session, *image: str) -> KeptScan | None:
    """Return what the last scan of an image, by its ids, has found, None where none is known. Raises StoreError."""
    for id_, trust in product(image, dict.fromkeys((Trust(), session.trust))):
        try:
            data, _ = session.services.store.read(_name(id_, trust))
        except NotFoundError:
            continue
        return _read(data)
    return None


def _read(data: bytes) -> KeptScan | None:
    document = parse_object(data) or {}
    try:
        found = tuple(sorted(_vulnerability(*row) for row in document["found"]))
        texts = [document["scanner"], document["database"], *document["failing"], *document["waived"]]
        if not all(isinstance(text, str) for text in texts) or not 0 <= document["at"] < _LATEST:
            return None
        report = ScanReport(document["scanner"], document["database"], found)
        return KeptScan(report, float(document["at"]), frozenset(document["failing"]), frozenset(document["waived"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _vulnerability(name: str, package: str, version: str, fixed: str, severity: str, kind: str) -> Vulnerability:  # noqa: PLR0917
    return Vulnerability(str(name), str(package), str(version), str(fixed), SeverityLevel[severity], str(kind))


def _name(image: str, trust: Trust) -> str:
    return f"{trust.prefix}verdicts/{image.removeprefix('sha256:')}/scan.json"
