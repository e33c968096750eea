"""The task `cache:gc`: housekeeping of everything but ccache's packs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.planning.plan import Plan
from imagetiers.tasks.act import Act
from imagetiers.tasks.options import number, option, size, switch

__all__ = ["gc_task"]

_HOUR = 3600.0
_DAY = 24 * _HOUR


def _grace(value: str) -> int:
    """Read hours, as many as pushes need. Raises ValueError."""
    from imagetiers.planning.housekeeping import GRACE_MIN

    hours: int = number(math.ceil(GRACE_MIN / _HOUR))(value)
    return hours


def gc_task(act: Act, plans: Callable[[], Iterable[Plan]]) -> dict[str, Any]:
    """Return the task; `plans` makes the plans of all variants, `act` runs the work in a session."""

    def gc(  # noqa: PLR0917
        dry_run: bool,  # noqa: FBT001  doit passes options so, by their names
        days: int,
        keep: int,
        max_count: int,
        max_size: int | None,
        grace: int,
    ) -> TaskFailed | None:
        from imagetiers.operations.gc import GcOptions, collect_garbage

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
                "keep the wheels of at most so many compile keys of a tier; 0: any number",
                number(0),
                default=0,
            ),
            option("max-size", "keep at most so much in the cache, such as 200G", size, default=None),
            option("grace", "hours between marking a thing and removing it", _grace, default=24),
        ],
        "actions": [gc],
        "meta": {"quiet": True},
    }
