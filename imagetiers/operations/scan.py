"""scan: known vulnerabilities of images, against a database that the pipeline names; the gate of a push; differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from imagetiers.errors import EngineError, ImagetiersError, Problem, VerifyError
from imagetiers.operations.dockerfiles import today
from imagetiers.planning.keys import short
from imagetiers.planning.observed import Unknown
from imagetiers.planning.plan import TierPlan
from imagetiers.planning.vulnerabilities import (
    Judged,
    ScanReport,
    SeverityLevel,
    Vulnerability,
    judge_scan,
    read_report,
)
from imagetiers.repository_file import Reads, read_file
from imagetiers.session import Session
from imagetiers.state.observe import observe
from imagetiers.state.sboms import sbom_of
from imagetiers.state.scans import keep_scan

__all__ = ["diff_scans", "scan_problems", "show_scans"]

_SHOWN = 30
_HOW = "scan: {database: FOLDER} in pipeline.yaml, which trivy image --download-db-only --cache-dir FOLDER fills"


def show_scans(session: Session, tiers: Iterable[TierPlan]) -> None:
    """Print what images hold. Raises VerifyError with what may not be there, and with what could not be scanned."""
    problems: list[Problem] = []
    for tier in tiers:
        problems += _scan(session, tier)
    VerifyError.raise_if(problems)


def scan_problems(session: Session, tier: TierPlan) -> tuple[Problem, ...]:
    """Return what keeps a tier's image from being pushed; nothing where the pipeline scans none. Raises EngineError."""
    return tuple(_scan(session, tier)) if session.plan.pipeline.scan is not None else ()


def diff_scans(session: Session, before: str, after: str) -> None:
    """Print what one image has and the other has not, by one scanner and database. Raises EngineError, VerifyError."""
    images = [_image_of(session, name) for name in (before, after)]
    reports = []
    for name, image in zip((before, after), images, strict=True):
        report = _report(session, image)
        if isinstance(report, Unknown):
            raise VerifyError(Problem(f"scan:diff {name}", f"is unknown: {report.reason}", _HOW))
        reports.append(report)
    say = session.services.console.line
    say(f"{reports[0].scanner}, database of {reports[0].database}")
    for name, image, report in zip((before, after), images, reports, strict=True):
        say(f"{name} ({image}): {_counted(report.found)}")
    old, new = ({(each.id, each.package): each for each in report.found} for report in reports)
    for title, those in (("gone", old.keys() - new.keys()), ("new", new.keys() - old.keys())):
        for key in sorted(those):
            say(f"  {title}: {(old if title == 'gone' else new)[key]}")


def _scan(session: Session, tier: TierPlan) -> Iterator[Problem]:
    """Say what was found, and yield what fails."""
    task, pipeline = f"scan:{tier.name}", session.plan.pipeline
    if tier.config.output is not None:
        yield Problem(task, "makes files and no image", "doit scan of a tier that makes an image")
        return
    image = observe(session).image(tier)
    if image is None:
        yield Problem(
            task, "is unknown: there is no image of this key here", f"doit image:{tier.name}, or doit pull:{tier.name}"
        )
        return
    report = _report(session, image.id)
    if isinstance(report, Unknown) or pipeline.scan is None:
        reason = report.reason if isinstance(report, Unknown) else "pipeline.yaml has no scan:"
        yield Problem(task, f"is unknown: {reason}", _HOW)
        return
    judged = judge_scan(report, pipeline.scan, pipeline.waivers, tier.name, today(session))
    keep_scan(session, tier, image.id, report, judged)
    say = session.services.console.line
    of = f"{short(tier.key)} ({image.id[:19]}), {report.scanner}, database of {report.database}"
    say(f"{task}: {of}: {_counted(report.found)}")
    if judged.waived:
        say(f"{task}: {len(judged.waived)} of them are waived")
    for waiver in judged.soon:
        say(f"{task}: the waiver of {waiver.vulnerability} runs out on {waiver.until}")
    yield from _failing(task, judged)


def _failing(task: str, judged: Judged) -> Iterator[Problem]:
    for waiver in judged.expired:
        yield Problem(
            waiver.where,
            f"the waiver of {waiver.vulnerability} ran out on {waiver.until}: {waiver.reason}",
            "update the package, or say anew",
        )
    shown = sorted(judged.failing, key=lambda each: (-each.severity, each))
    for each in shown[:_SHOWN]:
        hint = f"update {each.package}" if each.fixed else "waivers: [{vulnerability: …, reason: …, until: …}]"
        yield Problem(task, str(each), hint)
    if len(shown) > _SHOWN:
        yield Problem(task, f"and {len(shown) - _SHOWN:,} more")


def _report(session: Session, image: str) -> ScanReport | Unknown:
    policy, layout = session.plan.pipeline.scan, session.layout
    if policy is None:
        return Unknown("pipeline.yaml has no scan:")
    sbom = sbom_of(session, image)
    if isinstance(sbom, Unknown):
        return sbom
    try:
        vex = [read_file(layout.root / name, name, Reads()) for name in policy.vex]
    except ImagetiersError as error:
        return Unknown(str(error))
    if None in vex:
        return Unknown(f"there is no {policy.vex[vex.index(None)]}")
    found = session.services.scanner.scan(
        sbom, layout.root / policy.database, [text for text in vex if text is not None]
    )
    if isinstance(found, Unknown):
        return found
    return read_report(found.scanner, found.database, found.report, policy, session.services.now())


def _image_of(session: Session, name: str) -> str:
    """Return the id of the image that a tier, a key, a reference or an id means. Raises EngineError."""
    engine = session.services.engine
    if name in session.plan.tiers:
        image = observe(session).image(session.plan.tiers[name])
        if image is not None:
            return image.id
    for image in engine.images():
        if name in {image.id, *image.refs, *image.digests} or (
            len(name) >= len(short(image.key)) and image.key.startswith(name)
        ):
            return image.id
    if engine.has_image(name):
        return name
    raise EngineError(
        Problem(
            "scan:diff",
            f"the engine has no image {name}",
            "name a tier, a key, a tag or a digest; doit pull:TIER brings one here",
        )
    )


def _counted(found: Iterable[Vulnerability]) -> str:
    """Return how many there are, of packages with one each, and by severity."""
    every = tuple(found)
    counts = Counter(each.severity for each in every)
    parts = ", ".join(
        f"{counts[level]} {level.name.lower()}" for level in sorted(SeverityLevel, reverse=True) if counts[level]
    )
    return f"{len(every)} vulnerabilities" + (f" ({parts})" if parts else "")
