"""status: what is here of each tier, in one table."""

from __future__ import annotations

import json

from imagetiers.errors import StoreError
from imagetiers.layout import Layout
from imagetiers.plan import Plan
from imagetiers.ports import World
from imagetiers.report.tables import age_text, status_table
from imagetiers.steps.survey import survey

__all__ = ["show_status"]


def show_status(plan: Plan, layout: Layout, world: World) -> None:
    """Print the status table, and what is not known, or not as it was published."""
    seen = survey(plan, layout, world)
    world.console.print(status_table(plan, seen, world.now(), _warmth(plan, world)))
    if seen.unknown is not None:
        world.console.line(seen.unknown)
    for name, found in seen.registered.items():
        if found.unknown or found.wrong:
            world.console.line(f"{name}: {found.unknown or found.wrong}")


def _warmth(plan: Plan, world: World) -> dict[str, str]:
    """Say how the last compile of each tier went, from the cache's records."""
    warmth: dict[str, str] = {}
    for tier in plan.tiers.values():
        if tier.compile is None:
            continue
        try:
            blobs = list(world.store.list(f"{world.trust.prefix}records/{tier.name}/compile/"))
            if not blobs:
                continue
            record = json.loads(world.store.read(blobs[-1].name)[0])
            cacheable = record["hits"] + record["misses"]
            rate = f"{100 * record['hits'] / cacheable:.0f} % hits" if cacheable else "nothing through ccache"
            warmth[tier.name] = f"compiled in {age_text(record['seconds'])}, {rate}"
        except (StoreError, ValueError, KeyError, TypeError) as error:
            warmth[tier.name] = f"no record ({type(error).__name__})"
    return warmth
