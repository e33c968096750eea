"""report: one HTML file of what the cache's records and verdicts say. It asks no engine and no registry."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from imagetiers.ccache.listing import stored_namespaces
from imagetiers.ccache.namespace import describe, is_namespace
from imagetiers.config.gpus import GPUS, How, fit
from imagetiers.config.model import Trust
from imagetiers.errors import NotFoundError, Problem, StoreError, UntrustedError
from imagetiers.operations.ccache_stats import compile_history, namespace_view
from imagetiers.operations.outfile import write_out
from imagetiers.parallel import map_parallel
from imagetiers.planning.device_code import DeviceLibrary, made_by_others, promise
from imagetiers.planning.hit_rates import HitRates
from imagetiers.planning.keys import diff, read_key_document
from imagetiers.planning.plan import TierPlan
from imagetiers.planning.timeline import Span, last_build
from imagetiers.report.ccache_stats import CompileHistory, NamespaceView
from imagetiers.report.page.model import (
    BuildState,
    CompileRun,
    DeviceRow,
    DeviceView,
    Forecasted,
    KeyView,
    PageView,
    ScanView,
    SlowObject,
    TierView,
    VulnerabilityView,
)
from imagetiers.report.page.render import page_html
from imagetiers.session import Session
from imagetiers.state.failures import last_failure
from imagetiers.state.objects import known_objects
from imagetiers.state.records import Record, is_own, kept_records
from imagetiers.state.registry import Verdict, passed_before, publication
from imagetiers.state.scans import KeptScan, kept_scan
from imagetiers.stores.timeout import TimeoutStore

__all__ = ["look_back", "report_name", "write_report"]

_CONSOLE = "https://storage.cloud.google.com"

_COMPILES, _FORECASTS, _OBJECTS, _LIBRARIES, _NAMESPACES = 30, 30, 15, 40, 50
_VULNERABILITIES = 200
_THREADS = 16
_HOW = {How.NATIVE: "native", How.COMPATIBLE: "compatible", How.PTX: "ptx", How.NOT: "not"}


def write_report(session: Session, *, to: Path, since: float | None, publish: bool = False) -> None:
    """Write the report of the last `since` seconds (None: of all that is kept) to a file.

    With `publish` also into the cache, in the place of the one before. Raises OutputError, StoreError, and UntrustedError where
    an untrusted build would publish.
    """
    if publish and not session.trust.trusted:
        what = "this build is untrusted: who follows the report's link would take it for what trusted builds say"
        raise UntrustedError(Problem("doit report --publish", what, "without --publish it is written to a file"))
    page = look_back(session, since=None if since is None else session.services.now() - since)
    text = page_html(page)
    write_out(to, text, f"doit report --out {to}")
    session.services.console.line(f"report: {to}, of {len(page.tiers)} tiers and {len(page.compiles)} compiles")
    if publish:
        name = report_name(page.pipeline, page.variant)
        session.services.store.write(name, text.encode())
        session.services.console.line(f"report: published: {_link(session.services.store.url, name)}")


def report_name(pipeline: str, variant: str) -> str:
    """Return the name of the published report in the cache: always the same, so that a link to it stays."""
    return "/".join(filter(None, ("reports", pipeline, variant, "index.html")))


def _link(store: str, name: str) -> str:
    """Return where people open it. A bucket's objects are shown there to those who may read them."""
    scheme, separator, rest = store.partition("://")
    return f"{_CONSOLE}/{quote(rest)}/{quote(name)}" if separator and scheme == "gs" else f"{store}/{name}"


def look_back(session: Session, *, since: float | None) -> PageView:
    """Gather what the cache says of this pipeline and variant. Raises StoreError where it does not answer at all."""
    session = session.with_store(TimeoutStore(session.services.store))
    plan = session.plan
    asked = [(tier, kind) for tier in plan.tiers.values() for kind in ("compile", "image")]
    read = map_parallel(lambda one: _records(session, *one, since), asked, _THREADS)
    records = {(tier.name, kind): some for (tier, kind), some in zip(asked, read, strict=True)}
    every = [record for some in records.values() for record in some]
    every.sort(key=lambda record: record.began, reverse=True)
    notes: list[str] = []
    tiers: list[TierView] = []
    devices: list[DeviceView] = []
    scans: list[ScanView] = []
    verdicts: dict[str, Verdict | None] = {}
    for tier in plan.tiers.values():
        images = records[tier.name, "image"]
        last = next((record for record in images if record.key == tier.key), None)
        verdict = passed_before(session, tier, last.image) if last is not None and last.image else None
        verdicts[tier.name] = verdict
        tiers.append(_tier(session, tier, images, last, verdicts))
        scans += _scans(session, tier, images, last)
        if verdict is not None:
            devices += _devices(tier, verdict.libraries)
    try:
        namespaces = tuple(_namespaces(session))
    except StoreError as error:
        notes.append(f"the compiler cache does not say what it holds: {describe(error)}")
        namespaces = ()
    return PageView(
        plan.pipeline.name,
        plan.pipeline.variant or "",
        session.services.now(),
        since,
        tuple(tiers),
        last_build(plan, (_span(record) for record in every)),
        tuple(_compiles(every)),
        tuple(_forecasts(every)),
        tuple(_slow(session)),
        tuple(devices),
        tuple(scans),
        namespaces,
        tuple(_growth(every)),
        tuple(notes),
    )


def _records(session: Session, tier: TierPlan, kind: str, since: float | None) -> list[Record]:
    """Return a tier's records of this pipeline and variant, the newest first."""
    found = kept_records(session.services.store, (Trust(), session.trust), tier.name, kind)
    return [record for record in found if is_own(session, record) and (since is None or record.began >= since)]


def _tier(
    session: Session, tier: TierPlan, images: Iterable[Record], last: Record | None, verdicts: dict[str, Verdict | None]
) -> TierView:
    verdict = verdicts[tier.name]
    above = verdicts.get(tier.config.parent or "")
    layers = verdict.layers if verdict is not None else ()
    failed = None
    if last is not None and last.image:
        failed = last_failure(session, tier, last.image, passed=verdict is not None)
    if last is None:
        state = BuildState.NONE
    elif _published(session, tier):
        state = BuildState.PUBLISHED
    elif verdict is not None:
        state = BuildState.VERIFIED
    else:
        state = BuildState.BUILT if failed is None else BuildState.FAILED
    return TierView(
        tier.name,
        tier.config.parent,
        tier.key,
        state,
        _key(session, tier, images),
        size=last.size if last is not None else None,
        began=last.began if last is not None else None,
        layers=layers,
        own=min(len(above.layers), len(layers)) if above is not None else int(len(layers) > 1),
        checks=len(verdict.checks) if verdict is not None else 0,
        failed=failed,
    )


def _published(session: Session, tier: TierPlan) -> bool:
    if session.plan.pipeline.registry is None:
        return False
    found = publication(session.services, tier)
    return found is not None and bool(found.digest)


def _key(session: Session, tier: TierPlan, images: Iterable[Record]) -> KeyView:
    """Show the key document, and what is other in it than in that of the newest build of another key."""
    own = tier.key_document.content()
    text = json.dumps(own, indent=2, sort_keys=True, ensure_ascii=False)
    for record in images:
        if record.key != tier.key and (document := _document(session, record.key)) is not None:
            changes = tuple(str(change) for change in diff(document, own))
            return KeyView(text, record.key, record.began, changes)
    return KeyView(text)


def _document(session: Session, key: str) -> dict[str, object] | None:
    for prefix in dict.fromkeys(("", session.trust.prefix)):
        try:
            data, _ = session.services.store.read(f"{prefix}keys/{key}.json")
        except NotFoundError:
            continue
        found = read_key_document(data, key)
        return dict(found) if found is not None else None
    return None


def _span(record: Record) -> Span:
    return Span(f"{record.kind}:{record.tier}", record.began, record.seconds, record.phases, run=record.run)


def _compiles(records: Iterable[Record]) -> Iterator[CompileRun]:
    found = [record for record in records if record.kind == "compile"]
    for record in found[:_COMPILES]:
        total = HitRates(tuple(record.classes)).total
        yield CompileRun(record.tier, record.key, record.began, record.seconds, total)


def _growth(records: Iterable[Record]) -> Iterator[CompileHistory]:
    """Yield the tiers whose records say more than once how much their compiler cache held."""
    by_tier: dict[str, list[Record]] = {}
    for record in records:
        if record.kind == "compile":
            by_tier.setdefault(record.tier, []).append(record)
    for some in by_tier.values():
        history = compile_history(some)
        if history is not None and len(history.sizes) > 1:
            yield history


def _forecasts(records: Iterable[Record]) -> Iterator[Forecasted]:
    found = [record for record in records if record.predicted is not None]
    for record in found[:_FORECASTS]:
        told = record.predicted or {}
        expected = told.get("seconds", 0.0)
        low, high = told.get("low", expected), told.get("high", expected)
        builds = int(told.get("from", 0))
        yield Forecasted(f"{record.kind}:{record.tier}", record.began, expected, low, high, record.seconds, builds)


def _slow(session: Session) -> list[SlowObject]:
    """Return the objects that took longest when they were last compiled, of all tiers together."""
    found = [
        SlowObject(tier.name, name, known.seconds, known.memory)
        for tier in session.plan.tiers.values()
        if tier.compile is not None
        for name, known in known_objects(session, tier.compile).objects.items()
    ]
    return sorted(found, key=lambda one: -one.seconds)[:_OBJECTS]


def _devices(tier: TierPlan, libraries: Iterable[DeviceLibrary]) -> Iterator[DeviceView]:
    """Yield how the promised GPUs run the image's libraries, those that others have compiled last."""
    held = [library for library in libraries if library.holds]
    if tier.verify.device is None or not held:
        return
    promised = promise(tier.verify.device)
    held.sort(key=lambda library: (made_by_others(library.path, promised.others), library.path))
    rows = []
    for library in held[:_LIBRARIES]:
        fits = (fit(GPUS[gpu], library.sass, library.ptx) for gpu in promised.gpus)
        cells = tuple((str(found), _HOW[found.how]) for found in fits)
        rows.append(DeviceRow(library.path, made_by_others(library.path, promised.others), cells))
    gpus = tuple(f"{gpu} ({GPUS[gpu]})" for gpu in promised.gpus)
    yield DeviceView(tier.name, gpus, tuple(rows), len(held) - len(rows))


def _scans(session: Session, tier: TierPlan, images: Iterable[Record], last: Record | None) -> Iterator[ScanView]:
    """Yield what the last scan of the image of the tier's key has found, beside that of the newest image before."""
    kept = kept_scan(session, last.image) if last is not None and last.image else None
    if kept is None:
        return
    others = (record.image for record in images if record.key != tier.key and record.image)
    before = next((found for image in others if (found := kept_scan(session, image)) is not None), None)
    had = {(each.id, each.package) for each in before.report.found} if before is not None else set()
    has = {(each.id, each.package) for each in kept.report.found}
    worst = sorted(kept.report.found, key=lambda each: (-each.severity, each))
    rows = [
        VulnerabilityView(
            each.id,
            each.package,
            each.version,
            each.fixed,
            each.severity.name.lower(),
            _judged(kept, each.id),
            before is not None and (each.id, each.package) not in had,
        )
        for each in worst[:_VULNERABILITIES]
    ]
    gone = tuple(f"{name} of {package}" for name, package in sorted(had - has))
    more = len(worst) - len(rows)
    yield ScanView(
        tier.name, kept.at, kept.report.scanner, kept.report.database, tuple(rows), gone, more, before is not None
    )


def _judged(kept: KeptScan, vulnerability: str) -> str:
    if vulnerability in kept.failing:
        return "fails"
    return "waived" if vulnerability in kept.waived else "passes"


def _namespaces(session: Session) -> Iterator[NamespaceView]:
    """Yield the namespaces of this pipeline that this build trusts, the fullest first. Raises StoreError."""
    trusted = ("trusted.", f"{session.trust.level}.{session.trust.branch}.")
    names = [
        found.name
        for found in stored_namespaces(session.services.store, "")
        if f".{session.plan.pipeline.name}." in found.name
        and found.name.startswith(trusted)
        and is_namespace(found.name)
    ]
    spaces = [namespace_view(session.services.store, name) for name in names[:_NAMESPACES]]
    yield from sorted(spaces, key=lambda space: -space.stored)
