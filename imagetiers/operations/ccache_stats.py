"""ccache:stats: what each namespace of this pipeline holds."""

from __future__ import annotations

import json
from functools import partial

from imagetiers.ccache.apart import Report
from imagetiers.ccache.format.head import Use
from imagetiers.ccache.stats import stats
from imagetiers.operations.ccache_namespaces import each_namespace, report_on, stored_names
from imagetiers.report.amounts import age_text, size_text
from imagetiers.session import Session
from imagetiers.stores.port import BucketSettings, Store

__all__ = ["bucket_lines", "show_stats", "stats_report"]


def show_stats(session: Session, *, namespace: str) -> None:
    """Print what each namespace holds. Raises StoreError."""

    def one(name: str) -> object:
        return report_on(
            session, name, partial(stats_report, session.services.store, name, session.services.now())
        ).text

    each_namespace(stored_names(session, namespace), session.services, one)
    settings = session.services.bucket_settings()
    if settings is not None:
        session.services.console.line("\n".join([f"bucket of {session.services.store.url}:", *bucket_lines(settings)]))


def stats_report(store: Store, name: str, now: float) -> Report:
    """Say what a namespace holds. Raises StoreError."""
    found = stats(store, name)
    lines = [
        f"state {found.sequence} ({found.reason or 'empty'}), {age_text(now - found.written)} old",
        f"{found.results} results, {found.manifests} manifests; {size_text(found.entry_bytes)} as files",
        f"{found.packs} packs of {size_text(found.pack_bytes)}, of which {size_text(found.live_bytes)} are live",
        f"{found.other_objects} other objects ({size_text(found.other_bytes)}), {found.retired} on their way out",
    ]
    lines += [_use(step, how, use, now) for (step, how), use in sorted(found.uses.items())]
    lines += [
        f"can go back to state {number} ({reason}), {age_text(now - at)} old" for number, at, reason in found.history
    ]
    lines += [f"lost: {lost}" for lost in found.lost]
    return Report("\n  ".join(lines))


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


def _use(step: str, how: str, use: Use, now: float) -> str:
    which = "earlier good" if how == "before" else how
    return f"{which} run of {step}: {use.count} entries, {size_text(use.bytes)}, {age_text(now - use.at)} ago"
