"""What of the kept things may go: from what there is, what is needed and earlier marks to new marks and deletions. Pure.

A thing goes in two phases. One that nothing needs and that a limit speaks against is only marked, with the time; a later
run removes what has been marked for longer than the grace period. What is used, needed or written anew in between is
unmarked. So whoever has just begun to use something has that long to leave a trace of it.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "GRACE_MIN",
    "Item",
    "Limits",
    "Mark",
    "Sweep",
    "decode_marks",
    "encode_marks",
    "plan_sweep",
    "sweep_now",
]

GRACE_MIN = 7200.0
"""The shortest grace period in seconds: a build must have begun and left its record by then, or have what it needs."""

MARKS_MAX = 32 * 1024 * 1024
"""Most bytes of the document of marks."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Item:
    """A thing that is kept: `size` in bytes, last `used` (Unix s), `generation` to tell it from one written anew.

    `group` is what a limit by count counts together: a tier's wheels, the records of a tier's compiles.
    """

    name: str
    kind: str
    size: int
    used: float
    generation: int = 0
    group: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a thing may go: unused for `max_age` seconds, or not among the `max_count` latest used of its group.

    None: no such limit. The `keep` latest used of a group stay in any case.
    """

    max_age: float | None = None
    max_count: int | None = None
    keep: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """That a thing was marked, when (Unix s), and which generation of it."""

    since: float
    generation: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """What becomes of the things: `keep` stay, `marked` go later unless they are used, `delete` go now.

    `marks` are those to be written before anything is deleted; `unmarked` counts those that were marked and stay.
    """

    keep: tuple[Item, ...] = ()
    marked: tuple[Item, ...] = ()
    delete: tuple[Item, ...] = ()
    marks: Mapping[str, Mark] = field(default_factory=dict)
    unmarked: int = 0


def plan_sweep(  # noqa: PLR0917  one value each
    items: Iterable[Item],
    needed: Collection[str],
    marks: Mapping[str, Mark],
    limits: Mapping[str, Limits],
    now: float,
    grace: float,
    max_bytes: int | None = None,
) -> Sweep:
    """Decide. `needed` are names that stay whatever the limits say; a kind without `limits` stays, too.

    `max_bytes` is for all things together: what was used least recently goes first.
    """
    if grace < GRACE_MIN:
        raise ValueError(f"a grace period of {grace} s is shorter than {GRACE_MIN:.0f} s")
    every = sorted(items, key=lambda item: (-item.used, item.name))
    unwanted = _unwanted(every, needed, limits, now, max_bytes)
    keep: list[Item] = []
    marked: list[Item] = []
    delete: list[Item] = []
    written: dict[str, Mark] = {}
    for item in every:
        mark = marks.get(item.name)
        if item.name not in unwanted:
            keep.append(item)
            continue
        if mark is not None and (mark.generation != item.generation or item.used > mark.since or mark.since > now):
            mark = None  # it was used or written since, or marked by a clock that was wrong
        if mark is not None and now - mark.since > grace:
            delete.append(item)
            continue
        marked.append(item)
        written[item.name] = mark or Mark(now, item.generation)
    unmarked = sum(item.name in marks for item in keep)
    return Sweep(tuple(keep), tuple(marked), tuple(delete), written, unmarked)


def sweep_now(items: Iterable[Item], needed: Collection[str], limits: Mapping[str, Limits], now: float) -> Sweep:
    """Decide for things that nobody can begin to use unnoticed: what a limit speaks against goes at once, without a mark."""
    every = sorted(items, key=lambda item: (-item.used, item.name))
    unwanted = _unwanted(every, needed, limits, now, None)
    return Sweep(
        tuple(item for item in every if item.name not in unwanted),
        delete=tuple(item for item in every if item.name in unwanted),
    )


def _unwanted(
    every: list[Item],
    needed: Collection[str],
    limits: Mapping[str, Limits],
    now: float,
    max_bytes: int | None,
) -> set[str]:
    """Return the names of what a limit speaks against; `every` has the latest used first."""
    unwanted: set[str] = set()
    free: list[Item] = []
    rank: Counter[tuple[str, str]] = Counter()
    for item in every:
        limit = limits.get(item.kind)
        place = rank[item.kind, item.group]
        rank[item.kind, item.group] += 1
        if item.name in needed or limit is None or place < limit.keep:
            continue
        free.append(item)
        too_old = limit.max_age is not None and now - item.used > limit.max_age
        too_many = limit.max_count is not None and place >= limit.max_count
        if too_old or too_many:
            unwanted.add(item.name)
    if max_bytes is not None:
        left = sum(item.size for item in every if item.name not in unwanted)
        for item in reversed(free):
            if left <= max_bytes:
                break
            if item.name not in unwanted:
                unwanted.add(item.name)
                left -= item.size
    return unwanted


def encode_marks(marks: Mapping[str, Mark]) -> bytes:
    """Encode marks as JSON."""
    listed = {name: [mark.since, mark.generation] for name, mark in marks.items()}
    return json.dumps({"format": _FORMAT, "marks": listed}, sort_keys=True, separators=(",", ":")).encode()


def decode_marks(data: bytes) -> dict[str, Mark]:
    """Read marks. Raises ValueError."""
    try:
        document: Any = json.loads(data) if len(data) <= MARKS_MAX else None
        if document["format"] != _FORMAT:
            raise ValueError("marks of another format")
        return {str(name): _mark(*value) for name, value in document["marks"].items()}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no marks") from error


def _mark(since: object, generation: object) -> Mark:
    if not isinstance(since, int | float) or not math.isfinite(since) or type(generation) is not int:
        raise ValueError("no mark")
    return Mark(float(since), generation)


def by_kind(items: Iterable[Item]) -> Mapping[str, tuple[int, int]]:
    """Return how many items there are of each kind, and their bytes."""
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for item in items:
        count, size = found[item.kind]
        found[item.kind] = (count + 1, size + item.size)
    return found
