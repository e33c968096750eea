"""How long a compile goes on, from what its objects took the last time and not from their count. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from imagetiers.planning.objects import KnownObjects

__all__ = ["seconds_left"]

_RECENT = 30 * 86400  # seconds: objects that nobody has seen for so long before the last ones are of another version
_LEAST = 3.0  # seconds of a compile that say how fast it is


def seconds_left(known: KnownObjects, done: Iterable[str], elapsed: float, units_left: int | None) -> float | None:
    """Return the seconds that a compile goes on after `elapsed` seconds; None where too little is known.

    It has got through the seconds of the known objects that are `done`, by hits and by all its jobs, and goes on as fast.
    `units_left` is how many files its build tool still makes, None where that does not say: of more known objects than
    these, only a part is still to come.
    """
    newest = max((one.seen for one in known.objects.values()), default=0.0)
    reached = frozenset(done)
    through = sum(one.seconds for name, one in known.objects.items() if name in reached)
    left = [one.seconds for name, one in known.objects.items() if name not in reached and newest - one.seen < _RECENT]
    if elapsed < _LEAST or not through:
        return None
    part = 1.0 if units_left is None or len(left) <= units_left else units_left / len(left)
    return sum(left) * part * elapsed / through
