"""What a sweep of kept things comes to, in a line a kind."""

from __future__ import annotations

from imagetiers.planning.housekeeping import Sweep, by_kind
from imagetiers.report.amounts import age_text, size_text

__all__ = ["swept_lines"]


def swept_lines(where: str, sweep: Sweep, grace: float, *, dry_run: bool) -> list[str]:
    """Say of each kind how many there are and their bytes: kept, marked, removed. What is marked goes `grace` seconds later."""
    kept, marked, deleted = (by_kind(items) for items in (sweep.keep, sweep.marked, sweep.delete))
    would = "would be " if dry_run else ""
    lines = [f"{where}:"]
    for kind in sorted({*kept, *marked, *deleted}):
        parts = [f"{_counted(*kept.get(kind, (0, 0)))} kept"]
        if kind in marked:
            parts.append(f"{_counted(*marked[kind])} {would}marked")
        if kind in deleted:
            parts.append(f"{_counted(*deleted[kind])} {would}removed")
        lines.append(f"  {kind}: {', '.join(parts)}")
    if sweep.marked:
        lines.append(
            f"  what is marked is removed by a cache:gc in {age_text(grace)} or later, unless it is used before"
        )
    if sweep.unmarked:
        lines.append(f"  {sweep.unmarked} that were marked are needed or were used: unmarked")
    return lines


def _counted(count: int, size: int) -> str:
    return f"{count} ({size_text(size)})"
