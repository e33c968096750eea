"""ccache:stats: what the compiler cache holds, who wrote it, and what it has saved: a picture, or JSON for programs.

The JSON is as schemas/ccache-stats.schema.json says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from imagetiers.ccache.apart import Report
from imagetiers.ccache.prune import prune
from imagetiers.ccache.stats import stats
from imagetiers.config.model import Trust
from imagetiers.operations.ccache_namespaces import each_namespace, report_on, stored_names
from imagetiers.operations.outfile import write_json
from imagetiers.planning.hit_rates import HitRates
from imagetiers.report.amounts import age_text
from imagetiers.report.ccache_stats import (
    CompileHistory,
    NamespaceView,
    Writer,
    history_picture,
    namespace_picture,
    writers_table,
)
from imagetiers.session import Session
from imagetiers.state.records import Record, is_own, kept_records
from imagetiers.stores.port import BucketSettings, Store

__all__ = ["bucket_lines", "compile_history", "namespace_document", "namespace_view", "show_stats", "stats_report"]

_FORMAT = 1


def show_stats(session: Session, *, namespace: str, to: str = "") -> None:
    """Draw what each namespace holds, and what that did for the compiles of this pipeline, or write it `to` a JSON file.

    Raises StoreError, also where one of several namespaces cannot be read, and OutputError.
    """
    if to:
        _write_stats(session, namespace, to)
        return
    console, now = session.services.console, session.services.now()
    each_namespace(
        stored_names(session, namespace),
        session.services,
        lambda name: console.print(namespace_picture(_read(session, name), now)),
    )
    if not namespace:
        kept = list(_compiles(session))
        for history in _histories(kept):
            console.print(history_picture(history, now))
        writers = list(_writers(kept))
        if writers:
            console.print(writers_table(writers, now))
    settings = session.services.bucket_settings()
    if settings is not None:
        console.line("\n".join([f"bucket of {session.services.store.url}:", *bucket_lines(settings)]))


def _write_stats(session: Session, namespace: str, to: str) -> None:
    kept = [] if namespace else list(_compiles(session))
    views = [_read(session, name) for name in stored_names(session, namespace)]
    document = {
        "format": _FORMAT,
        "store": session.services.store.url,
        "namespaces": [namespace_document(view) for view in views],
        "compiles": [_history_document(history) for history in _histories(kept)],
        "writers": [asdict(writer) for writer in _writers(kept)],
    }
    write_json(to, document)


def namespace_document(view: NamespaceView) -> dict[str, Any]:
    """Return what a namespace holds, for programs."""
    runs = [dict(zip(("step", "outcome", "at", "entries", "bytes"), run, strict=True)) for run in view.runs]
    states = [dict(zip(("sequence", "written", "reason", "entries"), state, strict=True)) for state in view.states]
    return asdict(view) | {"runs": runs, "states": states, "lost": list(view.lost)}


def _history_document(history: CompileHistory) -> dict[str, Any]:
    return {
        "tier": history.tier,
        "began": history.began,
        "classes": [asdict(one) for one in history.classes],
        "rates": [{"began": began, "rate": rate} for began, rate in history.rates],
        "sizes": [{"began": began, "bytes": size} for began, size in history.sizes],
    }


def _read(session: Session, name: str) -> NamespaceView:
    work = partial(stats_report, session.services.store, name)
    return _view(json.loads(report_on(session, name, work).text))


def _histories(kept: Iterable[tuple[str, Record]]) -> Iterator[CompileHistory]:
    records = [record for _, record in kept]
    for tier in dict.fromkeys(record.tier for record in records):
        history = compile_history(record for record in records if record.tier == tier)
        if history is not None:
            yield history


def _compiles(session: Session) -> Iterator[tuple[str, Record]]:
    """Yield the records of this pipeline's and variant's compiles, with whose build it was. Raises StoreError."""
    store = session.services.store
    for tier in session.plan.tiers.values():
        if tier.compile is None:
            continue
        trusted = kept_records(store, (Trust(),), tier.name, "compile")
        every = kept_records(store, (Trust(), session.trust), tier.name, "compile") if session.trust.prefix else trusted
        for record in every:
            if is_own(session, record):
                yield (Trust() if record in trusted else session.trust).label, record


def compile_history(records: Iterable[Record]) -> CompileHistory | None:
    """Say how the compiles of a tier went, from its records; None where no compiler was called through ccache."""
    found = sorted((record for record in records if record.hits + record.misses), key=lambda record: record.began)
    if not found:
        return None
    newest = found[-1]
    rated = [(record, HitRates(tuple(record.classes)).total.rate) for record in found]
    return CompileHistory(
        newest.tier,
        newest.began,
        tuple(newest.classes),
        tuple((record.began, rate) for record, rate in rated if rate is not None),
        tuple((record.began, record.cached) for record in found if record.cached),
    )


def _writers(records: Iterable[tuple[str, Record]]) -> Iterator[Writer]:
    found: dict[tuple[str, str], list[Record]] = {}
    for trust, record in records:
        found.setdefault((trust, record.worker), []).append(record)
    for (trust, worker), some in found.items():
        yield Writer(
            trust, worker, len(some), sum(record.pushed for record in some), max(record.began for record in some)
        )


def stats_report(store: Store, name: str) -> Report:
    """Say what a namespace holds, as JSON, which is what another process can hand over. Raises StoreError."""
    return Report(json.dumps(asdict(namespace_view(store, name))))


def namespace_view(store: Store, name: str) -> NamespaceView:
    """Return what a namespace holds, and what a prune would delete of it now. Raises StoreError."""
    held = stats(store, name)
    runs = sorted(
        ((step, outcome, use.at, use.count, use.bytes) for (step, outcome), use in held.uses.items()),
        key=lambda run: -run[2],
    )
    entries = held.results + held.manifests
    now = (held.sequence, held.written, held.reason, entries)
    return NamespaceView(
        name,
        held.sequence,
        held.reason,
        held.written,
        held.results,
        held.manifests,
        held.entry_bytes,
        held.live_bytes,
        max(0, held.pack_bytes - held.live_bytes),
        held.other_bytes,
        held.packs,
        held.retired,
        prune(store, name, dry_run=True).deleted_bytes,
        tuple(runs),
        (*held.history, now),
        held.lost,
    )


def _view(document: Mapping[str, Any]) -> NamespaceView:
    rows = {name: tuple(tuple(row) for row in document[name]) for name in ("runs", "states")}
    return NamespaceView(**{**document, **rows, "lost": tuple(document["lost"])})


def bucket_lines(settings: BucketSettings) -> list[str]:
    """Say which of a bucket's own settings cost money or break a cache, and the commands that mend them.

    Soft delete keeps, and bills, everything that is replaced or deleted for its duration; a lifecycle rule that deletes by
    age deletes packs that are still referred to (docs/cache-format.md).
    """
    lines = []
    if settings.soft_delete:
        lines.append(
            f"  soft delete keeps what is deleted for {age_text(settings.soft_delete)}, billed:"
            " gcloud storage buckets update gs://BUCKET --clear-soft-delete"
        )
    if settings.versioning:
        lines.append(
            "  versioning keeps every old head, billed: gcloud storage buckets update gs://BUCKET --no-versioning"
        )
    if not settings.uniform_access:
        lines.append(
            "  objects have access lists: gcloud storage buckets update gs://BUCKET --uniform-bucket-level-access"
        )
    for rule in settings.lifecycle:
        parsed = json.loads(rule)
        prefixes = parsed.get("condition", {}).get("matchesPrefix") or [""]
        deletes = parsed.get("action", {}).get("type") == "Delete"
        if deletes and not all("untrusted/" in prefix for prefix in prefixes):
            lines.append(f"  a lifecycle rule deletes what may still be in use: {rule}")
    return lines or ["  its settings are right for a cache"]
