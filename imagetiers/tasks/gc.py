"""The task `cache:gc`: housekeeping of everything but ccache's packs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.config.forms import parse_size
from imagetiers.config.layout import Layout
from imagetiers.errors import Problem
from imagetiers.planning.plan import Plan
from imagetiers.services import Services

__all__ = ["gc_task"]

_DAY = 86_400.0


def gc_task(
    act: Callable[[Callable[[], None]], TaskFailed | None],
    plans: Callable[[], Iterable[Plan]],
    layout: Layout,
    services: Services,
) -> dict[str, Any]:
    """Return the task; `plans` makes the plans of all variants, `act` runs the work and turns failures into texts."""

    def gc(  # noqa: PLR0917
        dry_run: bool,  # noqa: FBT001  doit passes options so, by their names
        days: int,
        keep: int,
        max_count: int,
        max_size: str,
        grace: int,
    ) -> TaskFailed | None:
        from imagetiers.operations.gc import GcOptions, collect_garbage
        from imagetiers.planning.housekeeping import GRACE_MIN

        try:
            most = parse_size(max_size) if max_size else None
        except ValueError:
            return TaskFailed(str(Problem("--max-size", f"'{max_size}' is not a size", "write 200G or 500M")))
        for option, number in (("--days", days), ("--keep", keep), ("--max-count", max_count)):
            if number < 0:
                return TaskFailed(str(Problem(option, f"{number} is less than nothing")))
        if grace * 3600 < GRACE_MIN:
            hint = f"{GRACE_MIN / 3600:.0f} or more: a build must have left its record by then"
            return TaskFailed(str(Problem("--grace", f"{grace} hours are too few", hint)))
        options = GcOptions(days * _DAY, max_count or None, most, keep, grace * 3600.0, dry_run)
        return act(lambda: collect_garbage(plans(), layout, services, options))

    return {
        "basename": "cache:gc",
        "doc": "remove what nobody has used for long, here and in the cache",
        "params": [
            _param("dry-run", "only say what would be done", default=False),
            _param("days", "keep what was used in so many days", default=90),
            _param("keep", "keep what the newest builds of each tier and variant need, so many of them", default=3),
            _param("max-count", "keep the wheels of at most so many compile keys of a tier; 0: any number", default=0),
            _param("max-size", "keep at most so much in the cache, such as 200G", default=""),
            _param("grace", "hours between marking a thing and removing it", default=24),
        ],
        "actions": [gc],
        "meta": {"quiet": True},
    }


def _param(name: str, text: str, *, default: str | int) -> dict[str, Any]:
    return {"name": name.replace("-", "_"), "long": name, "type": type(default), "default": default, "help": text}
