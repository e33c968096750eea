"""status: what is here of each tier, in one table."""

from __future__ import annotations

from imagetiers.ccache.namespace import describe
from imagetiers.documents import parse_object
from imagetiers.errors import CorruptError, NotFoundError, StoreError
from imagetiers.planning.decide import decide, forgotten
from imagetiers.planning.gpus import compiled_for
from imagetiers.planning.keys import short
from imagetiers.report.gpus import gpu_line
from imagetiers.report.tables import age_text, status_table
from imagetiers.session import Session
from imagetiers.state.observe import observe
from imagetiers.state.records import Record

__all__ = ["show_status"]

_RECORDS = 10


def show_status(session: Session) -> None:
    """Print the status table, and what is not known, or not as it was published."""
    seen = observe(session)
    warmth, notes = _warmth(session)
    session.services.console.print(status_table(session.plan, seen, session.services.now(), warmth))
    for compiled in compiled_for(session.plan):
        session.services.console.line(gpu_line(compiled))
    if seen.unknown is not None:
        session.services.console.line(seen.unknown)
    for name, found in seen.registered.items():
        if found.unknown or found.wrong:
            session.services.console.line(f"{name}: {found.unknown or found.wrong}")
    for task in forgotten(decide(session.plan, seen)):
        session.services.console.line(f"{task}: doit forget was asked, so it runs once more")
    for note in (*seen.notes, *notes):
        session.services.console.line(note)


def _warmth(session: Session) -> tuple[dict[str, str], tuple[str, ...]]:
    """Say how the last compile of each compile key went, from the cache's records of this pipeline and variant.

    The lines tell why a record could not be read, the first time that happens: it would be the same again.
    """
    warmth: dict[str, str] = {}
    for tier in session.plan.tiers.values():
        if tier.compile is None:
            continue
        try:
            record = _record(session, tier.name, tier.compile.key)
        except StoreError as error:
            return warmth, (f"the cache does not say how compiles went: {describe(error)}",)
        if record is not None:
            hits = record.hits + record.misses
            rate = f"{100 * record.hits / hits:.0f} % hits" if hits else "nothing through ccache"
            total = record.saved_seconds + record.compiled_seconds
            if hits and record.saved_seconds:
                rate += f", {100 * record.saved_seconds / total:.0f} % of the seconds"
            warmth[tier.name] = f"compiled in {age_text(record.seconds)}, {rate}"
    return warmth, ()


def _record(session: Session, tier: str, key: str) -> Record | None:
    """Return the newest record of that compile key. One that was adopted names no pipeline; its key is enough."""
    names = [blob.name for blob in session.services.store.list(f"{session.trust.prefix}records/{tier}/compile/")]
    own = {(session.plan.pipeline.name, session.plan.pipeline.variant or ""), ("", "")}
    for name in [name for name in reversed(names) if name.endswith(f"-{short(key)}.json")][:_RECORDS]:
        try:
            record = Record(**(parse_object(session.services.store.read(name)[0]) or {}))
            if (
                record.key == key
                and (record.pipeline, record.variant) in own
                and record.seconds + record.hits + record.misses >= 0
            ):
                return record
        except (NotFoundError, CorruptError, ValueError, TypeError):
            continue  # removed meanwhile, damaged, or of another version
    return None
