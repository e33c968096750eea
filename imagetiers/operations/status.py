"""status: what there is of each tier, where, and what a doit would take now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from rich.console import Group

from imagetiers.ccache.namespace import describe
from imagetiers.errors import StoreError
from imagetiers.judging.outcome import FailedVerdict
from imagetiers.operations.dockerfiles import today
from imagetiers.operations.gc import room_line
from imagetiers.operations.outfile import write_json
from imagetiers.parallel import map_parallel
from imagetiers.planning.decide import decide, forgotten, tier_decisions
from imagetiers.planning.device_code import promise
from imagetiers.planning.forecast import TierForecast
from imagetiers.planning.gpus import compiled_for
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.pins import PinState
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.planning.status import ScanState, TierStatus, tier_statuses
from imagetiers.planning.vulnerabilities import judge_scan
from imagetiers.report.amounts import age_text
from imagetiers.report.checks import device_document
from imagetiers.report.device_code import device_table
from imagetiers.report.fitted import Fitted
from imagetiers.report.gpus import gpu_document, gpu_line
from imagetiers.report.status import drift_lines, status_document, status_table
from imagetiers.session import Session
from imagetiers.state.failures import last_failure
from imagetiers.state.history import processors, tier_forecasts
from imagetiers.state.observe import observe
from imagetiers.state.pins import pin_states
from imagetiers.state.records import own_records
from imagetiers.state.registry import Verdict, passed_before
from imagetiers.state.scans import kept_scan
from imagetiers.stores.timeout import TimeoutStore

__all__ = ["Status", "device_tables", "look", "show_status", "watch_status"]

_RECORDS = 10
_THREADS = 16


@dataclass(frozen=True)
class Status:
    """All that was found out at one moment."""

    seen: ObservedState
    tiers: tuple[TierStatus, ...]
    warmth: Mapping[str, str]
    notes: tuple[str, ...]
    verdicts: Mapping[str, Verdict]
    scans: Mapping[str, ScanState | None]
    pins: Mapping[str, tuple[PinState, ...]]
    failures: Mapping[str, FailedVerdict]


def show_status(
    session: Session, *, to: str = "", plans: Callable[[], Iterable[Plan]] | None = None, ask: bool = True
) -> None:
    """Print the tree, and what is not known; or write it as JSON to the file `to` (`-` = stdout).

    With the `plans` of all variants it also says how much room could come back on this machine.
    A cache that does not answer costs a note, the forecasts, and seconds at most. Without `ask`, nobody is asked what
    outside images are by now: what is remembered is said.
    """
    status = look(session, ask=ask)
    if to:
        write_json(to, _document(session, status))
        return
    console = session.services.console
    console.print(_table(session, status))
    for table in device_tables(session, status):
        console.print(table)
    for line in (*_lines(session, status), *(room_line(session, plans) if plans is not None else ())):
        console.line(line)


def watch_status(session: Session, seconds: float, wait: Callable[[float], None] = time.sleep) -> None:
    """Show the tree, and anew every so many seconds, until somebody asks to stop."""
    with session.services.console.live() as show:
        while not session.services.cancel.requested:
            status = look(session)
            show(Group(_table(session, status), *_lines(session, status)))
            try:
                wait(seconds)
            except KeyboardInterrupt:
                return


def look(session: Session, *, ask: bool = True) -> Status:
    """Look once: at the engine and folders, in one batch at the registry, and at the cache's records.

    With `ask`, at most once an hour also at the registries of outside images and at git's repositories.
    """
    store = TimeoutStore(session.services.store)
    asking = replace(session, services=replace(session.services, store=store))
    seen = observe(asking)
    decisions = decide(session.plan, seen)
    tiers = tier_decisions(session.plan, seen, decisions)
    notes = [f"{task}: doit forget was asked, so it runs once more" for task in forgotten(decisions)]
    cpus = processors(session.services) if any(tier.builds for tier in tiers) else 0
    outlook: Mapping[str, TierForecast] | None = None
    warmth: Mapping[str, str] = {}
    scans: Mapping[str, ScanState | None] = {}
    failures: Mapping[str, FailedVerdict] = {}
    try:
        failures = _failures(asking, seen)
        warmth = _warmth(asking)
        scans = _scans(asking, seen)
        outlook = tier_forecasts(asking, tiers, seen, cpus=cpus)
    except StoreError as error:
        notes.append(f"the cache does not say how builds went: {describe(error)}")
    statuses = tier_statuses(session.plan, seen, decisions, tiers, outlook)
    pins = pin_states(session, ask=ask)
    return Status(seen, statuses, warmth, (*seen.notes, *notes), _verdicts(asking, seen), scans, pins, failures)


def _table(session: Session, status: Status) -> Fitted:
    now = session.services.now()
    return status_table(
        session.plan,
        status.seen,
        status.tiers,
        now,
        status.warmth,
        scans=status.scans,
        pins=status.pins,
        failures=status.failures,
    )


def device_tables(session: Session, status: Status, only: str = "") -> list[Fitted]:
    """Return a table of libraries and GPUs for each tier whose image has device code, or for the one of that name."""
    found = []
    for name, verdict in status.verdicts.items():
        if only not in {"", name}:
            continue
        device = session.plan.tiers[name].verify.device
        if device is not None and any(library.holds for library in verdict.libraries):
            found.append(device_table(name, promise(device), verdict.libraries))
    return found


def _verdicts(session: Session, seen: ObservedState) -> dict[str, Verdict]:
    """Return the cache's verdicts on images that have passed, of tiers for GPUs: they know what the libraries hold."""
    found: dict[str, Verdict] = {}
    for tier in session.plan.tiers.values():
        if tier.verify.device is not None and seen.verified(tier):
            verdict = passed_before(session, tier, *seen.ids(tier))
            if verdict is not None:
                found[tier.name] = verdict
    return found


def _lines(session: Session, status: Status) -> list[str]:
    """Return what stands below the tree: GPUs, what is not known, or not as it was published, and notes."""
    lines = [gpu_line(compiled) for compiled in compiled_for(session.plan)]
    if status.seen.unknown is not None:
        lines.append(status.seen.unknown)
    for name, found in status.seen.registered.items():
        if found.unknown or found.wrong:
            lines.append(f"{name}: {found.unknown or found.wrong}")
    return [*lines, *drift_lines(status.pins, session.services.now()), *status.notes]


def _document(session: Session, status: Status) -> dict[str, object]:
    gpus = [gpu_document(compiled) for compiled in compiled_for(session.plan)]
    code = {
        name: device_document(session.plan.tiers[name].verify.device, verdict.libraries)
        for name, verdict in status.verdicts.items()
    }
    return status_document(
        session.plan,
        status.seen,
        status.tiers,
        status.warmth,
        gpus=gpus,
        notes=list(status.notes),
        device_code=code,
        scans=status.scans,
        pins=status.pins,
        failures=status.failures,
    )


def _failures(session: Session, seen: ObservedState) -> Mapping[str, FailedVerdict]:
    """Return what the last checks of each image have found wrong that are to be made once more. Raises StoreError."""

    def failure(tier: TierPlan) -> FailedVerdict | None:
        passed = seen.verified(tier)
        found = (last_failure(session, tier, id_, passed=passed) for id_ in seen.ids(tier))
        return next((failed for failed in found if failed is not None), None)

    asked = [
        tier
        for tier in session.plan.tiers.values()
        if f"verify:{tier.name}" in seen.forced or not (tier.verify.empty or seen.verified(tier))
    ]
    found = zip(asked, map_parallel(failure, asked, _THREADS), strict=True)
    return {tier.name: failed for tier, failed in found if failed is not None}


def _scans(session: Session, seen: ObservedState) -> Mapping[str, ScanState | None]:
    """Hold what the last scan of each tier's image has found against today's policy. Raises StoreError.

    Only of a pipeline that scans, and of tiers that have an image.
    """
    pipeline = session.plan.pipeline
    if pipeline.scan is None:
        return {}
    policy = pipeline.scan
    day = today(session)

    def state(name: str) -> tuple[str, ScanState | None] | None:
        ids = seen.ids(session.plan.tiers[name])
        if not ids:
            return None
        kept = kept_scan(session, *ids)
        if kept is None:
            return name, None
        judged = judge_scan(kept.report, policy, pipeline.waivers, name, day)
        return name, ScanState(kept.at, kept.report.scanner, kept.report.database, judged)

    found = map_parallel(state, session.plan.tiers, _THREADS)
    return dict(one for one in found if one is not None)


def _warmth(session: Session) -> Mapping[str, str]:
    """Say how the last compile of each compile key went, from the cache's records of this pipeline and variant.

    Raises StoreError.
    """
    warmth: dict[str, str] = {}
    for tier in session.plan.tiers.values():
        step = tier.compile
        found = own_records(session, tier.name, "compile", most=_RECORDS, key=step.key) if step is not None else []
        for record in found[:1]:
            hits = record.hits + record.misses
            rate = f"{100 * record.hits / hits:.0f} % hits" if hits else "nothing through ccache"
            if step is not None and step.config.ccache is None:
                warmth[tier.name] = f"compiled in {age_text(record.seconds)}"
                continue
            total = record.saved_seconds + record.compiled_seconds
            if hits and record.saved_seconds:
                rate += f", {100 * record.saved_seconds / total:.0f} % of the seconds"
            warmth[tier.name] = f"compiled in {age_text(record.seconds)}, {rate}"
    return warmth
