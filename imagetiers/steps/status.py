"""status: what is here of each tier, in one table."""

from __future__ import annotations

from imagetiers.documents import parse_object
from imagetiers.errors import CorruptError, NotFoundError, StoreError
from imagetiers.keys import short
from imagetiers.layout import Layout
from imagetiers.plan import Plan
from imagetiers.ports import World
from imagetiers.report.tables import age_text, status_table
from imagetiers.steps.ccache_space import describe
from imagetiers.steps.records import Record
from imagetiers.steps.survey import survey

__all__ = ["show_status"]

_RECORDS = 10


def show_status(plan: Plan, layout: Layout, world: World) -> None:
    """Print the status table, and what is not known, or not as it was published."""
    seen = survey(plan, layout, world)
    warmth, notes = _warmth(plan, world)
    world.console.print(status_table(plan, seen, world.now(), warmth))
    if seen.unknown is not None:
        world.console.line(seen.unknown)
    for name, found in seen.registered.items():
        if found.unknown or found.wrong:
            world.console.line(f"{name}: {found.unknown or found.wrong}")
    for note in (*seen.notes, *notes):
        world.console.line(note)


def _warmth(plan: Plan, world: World) -> tuple[dict[str, str], tuple[str, ...]]:
    """Say how the last compile of each compile key went, from the cache's records of this pipeline and variant.

    The lines tell why a record could not be read, the first time that happens: it would be the same again.
    """
    warmth: dict[str, str] = {}
    for tier in plan.tiers.values():
        if tier.compile is None:
            continue
        try:
            record = _record(plan, tier.name, tier.compile.key, world)
        except StoreError as error:
            return warmth, (f"the cache does not tell how compiles went: {describe(error)}",)
        if record is not None:
            hits = record.hits + record.misses
            rate = f"{100 * record.hits / hits:.0f} % hits" if hits else "nothing through ccache"
            warmth[tier.name] = f"compiled in {age_text(record.seconds)}, {rate}"
    return warmth, ()


def _record(plan: Plan, tier: str, key: str, world: World) -> Record | None:
    """Return the newest record of that compile key. One that was adopted names no pipeline; its key is enough."""
    names = [blob.name for blob in world.store.list(f"{world.trust.prefix}records/{tier}/compile/")]
    own = {(plan.pipeline.name, plan.pipeline.variant or ""), ("", "")}
    for name in [name for name in reversed(names) if name.endswith(f"-{short(key)}.json")][:_RECORDS]:
        try:
            record = Record(**(parse_object(world.store.read(name)[0]) or {}))
            if (
                record.key == key
                and (record.pipeline, record.variant) in own
                and record.seconds + record.hits + record.misses >= 0
            ):
                return record
        except (NotFoundError, CorruptError, ValueError, TypeError):
            continue  # removed meanwhile, damaged, or of another version
    return None
