"""The tasks `gc` and `cache:gc`: room on this machine, and housekeeping of everything in the cache but ccache's packs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.planning.plan import Plan
from imagetiers.tasks.invocation import Act
from imagetiers.tasks.options import number, option, size, switch

__all__ = ["gc_tasks"]

_HOUR = 3600.0
_DAY = 24 * _HOUR


def _grace(value: str) -> int:
    """Read hours, as many as pushes need. Raises ValueError."""
    from imagetiers.planning.housekeeping import GRACE_MIN

    hours: int = number(math.ceil(GRACE_MIN / _HOUR))(value)
    return hours


def gc_tasks(act: Act, plans: Callable[[], Iterable[Plan]]) -> Iterator[dict[str, Any]]:
    """Yield the tasks; `plans` makes the plans of all variants, `act` runs the work in a session."""
    yield _room_task(act, plans)
    yield _cache_task(act, plans)


def _room_task(act: Act, plans: Callable[[], Iterable[Plan]]) -> dict[str, Any]:
    def gc(dry_run: bool, days: int, keep: int) -> TaskFailed | None:  # noqa: FBT001  doit passes options so, by their names
        from imagetiers.operations.gc import RoomOptions, make_room

        options = RoomOptions(days * _DAY, keep, dry_run)
        return act(lambda session: make_room(session, plans(), options))

    return {
        "basename": "gc",
        "doc": "remove images, wheels and logs from this machine that nobody needs (--dry-run: say how much)",
        "params": [
            switch("dry-run", "only say what would be removed, and the bytes that would come back"),
            option("days", "keep what was used in so many days", number(0), default=14),
            option("keep", "keep so many of the newest images and logs of each tier and variant", number(0), default=2),
        ],
        "actions": [gc],
        "meta": {"quiet": True},
    }


def _cache_task(act: Act, plans: Callable[[], Iterable[Plan]]) -> dict[str, Any]:

    def gc(  # noqa: PLR0917
        dry_run: bool,  # noqa: FBT001  doit passes options so, by their names
        days: int,
        keep: int,
        max_count: int,
        max_size: int | None,
        grace: int,
    ) -> TaskFailed | None:
        from imagetiers.operations.cache_gc import GcOptions, collect_garbage

        options = GcOptions(days * _DAY, max_count or None, max_size, keep, grace * _HOUR, dry_run)
        return act(lambda session: collect_garbage(session, plans(), options))

    return {
        "basename": "cache:gc",
        "doc": "remove what nobody has used for long, here and in the cache",
        "params": [
            switch("dry-run", "only say what would be done"),
            option("days", "keep what was used in so many days", number(0), default=90),
            option(
                "keep",
                "keep what the newest builds of each tier and variant need, so many of them",
                number(0),
                default=3,
            ),
            option(
                "max-count",
                "keep the wheels, or archives of outputs, of at most so many keys of a tier; 0: any number",
                number(0),
                default=0,
            ),
            option("max-size", "keep at most so much in the cache, such as 200G", size, default=None),
            option("grace", "hours between marking a thing and removing it", _grace, default=24),
        ],
        "actions": [gc],
        "meta": {"quiet": True},
    }
