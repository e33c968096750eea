"""What the last compile has compiled again, as text for people."""

from __future__ import annotations

from collections import defaultdict

from imagetiers.planning.keys import short
from imagetiers.planning.last_compile import LastCompile, Missed, Why
from imagetiers.report.amounts import age_text

__all__ = ["misses_text"]

_SHOWN = 5


def misses_text(tier: str, last: LastCompile | None, now: float) -> str:
    """Return a paragraph for a tier: its misses by reason, those that took longest first."""
    if last is None:
        return f"{tier}: no compile of it is recorded"
    calls = last.hits + last.misses
    were = "was" if last.misses == 1 else "were"
    took = f" and took {last.compiled:,.1f} s" if last.misses else ""
    saved = f"; the hits have saved {last.saved:,.1f} s" if last.saved else ""
    age = age_text(now - last.began)
    lines = [f"{tier} {short(last.key)}: {last.misses} of {calls} objects {were} compiled {age} ago{took}{saved}"]
    groups: dict[tuple[Why, str], list[Missed]] = defaultdict(list)
    for one in last.missed:
        groups[one.why, one.detail].append(one)
    for (why, detail), some in sorted(groups.items(), key=lambda group: -_seconds(group[1])):
        count = f"{len(some)} object{'s' if len(some) > 1 else ''}, {_seconds(some):.1f} s"
        lines.append(f"  {why.value}{f': {detail}' if detail else ''} ({count})")
        longest = sorted(some, key=lambda one: (-one.seconds, one.object))
        lines += [f"    {one.object}  {one.seconds:.1f} s" for one in longest[:_SHOWN]]
        if len(some) > _SHOWN:
            lines.append(f"    and {len(some) - _SHOWN} more")
    if len(last.missed) < last.misses:
        lines.append(f"  and {last.misses - len(last.missed)} that took less, of which no more is kept")
    return "\n".join(lines)


def _seconds(some: list[Missed]) -> float:
    return sum(one.seconds for one in some)
