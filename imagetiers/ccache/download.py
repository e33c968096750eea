"""Fetch what is wanted of one pack, whole or by ranges, and say where each entry lies in what was fetched."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from itertools import accumulate, groupby

from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.pack import Codec, PackRef, SectionRef, parse_pack
from imagetiers.ccache.namespace import Namespace
from imagetiers.ccache.unpack import EntryPart, EntryRun
from imagetiers.errors import CorruptError

__all__ = ["GAP_MAX", "WHOLE_SHARE", "Extents", "Fetched", "Wanted", "extents_of", "fetch", "fetched_size"]

GAP_MAX = 256 * 1024
"""Ranges nearer than this many bytes are fetched as one: a request costs more than these bytes.

On two cores, with data that come at once, four times as much took a third less time for entries scattered over all packs; at
1 Gbit/s the 48 % more bytes would take longer than that saves.
"""

WHOLE_SHARE = 0.5
"""A pack of which more than this share is wanted is fetched whole."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry to restore, from which namespace, and whether it replaces an older manifest that is there."""

    entry: Entry
    space: Namespace
    replace: bool


Extents = dict[SectionRef, list[tuple[int, int]]]
"""Wanted byte ranges of a pack, by section: all of a compressed one, single entries of another."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Ranges of a pack, which lie in memory one after the other: where each begins in the pack, and its bytes."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    def runs(self, wanted: Sequence[Wanted], now: int) -> tuple[EntryRun, ...]:
        """Say where the entries lie in that memory; no mtime is later than `now` (Unix ns). Raises CorruptError."""
        order = sorted(wanted, key=lambda one: (one.entry.section.offset, one.entry.slot.offset))
        return tuple(self._runs(order, now))

    def _runs(self, order: Sequence[Wanted], now: int) -> Iterator[EntryRun]:
        for section, some in groupby(order, lambda one: one.entry.section):
            verbatim = section.codec is Codec.VERBATIM
            start = 0 if verbatim else self._place(section.offset, section.stored)
            parts = []
            for one in some:
                slot = one.entry.slot
                at = self._place(section.offset + slot.offset, slot.length) if verbatim else slot.offset
                replace = one.replace or section.kind is Kind.RESULT
                mtime = min(slot.mtime, now)
                parts.append(EntryPart(slot.name, at, slot.length, slot.size, slot.content, mtime, replace))
            yield EntryRun(section, start, tuple(parts))

    def _place(self, start: int, length: int) -> int:
        number = bisect_right(self.starts, start) - 1
        if number >= 0 and start + length <= self.starts[number] + self.sizes[number]:
            return start - self.starts[number] + sum(self.sizes[:number])
        raise CorruptError.of("", "the index lists bytes that the pack does not have")


def extents_of(wanted: Sequence[Wanted]) -> Extents:
    """Return the byte ranges of one pack in which these entries lie."""
    extents: Extents = {}
    for one in wanted:
        section, slot = one.entry.section, one.entry.slot
        if section.codec is Codec.VERBATIM:
            start = section.offset + slot.offset
            extents.setdefault(section, []).append((start, start + slot.length))
        else:
            extents[section] = [(section.offset, section.offset + section.stored)]
    return extents


def _ranges(extents: Extents) -> list[tuple[int, int]]:
    """Merge extents over gaps of at most GAP_MAX bytes."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(extent for some in extents.values() for extent in some):
        if merged and start - merged[-1][1] <= GAP_MAX:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _whole(pack: PackRef, extents: Extents) -> bool:
    return sum(end - start for some in extents.values() for start, end in some) > WHOLE_SHARE * pack.size


def fetched_size(pack: PackRef, extents: Extents) -> int:
    """Return how many bytes `fetch` will read."""
    return pack.size if _whole(pack, extents) else sum(end - start for start, end in _ranges(extents))


def fetch(
    space: Namespace,
    pack: PackRef,
    extents: Extents,
    memory: memoryview,
    got: Callable[[int], None],
    *,
    beside: Executor | None = None,
) -> Fetched:
    """Fetch what is wanted of a pack into memory that has room for it, and check all that is known of these bytes.

    Several ranges are fetched in turn, or with an executor at a time. Raises CorruptError, NotFoundError.
    """
    where = space.object("packs", pack.name)
    whole = _whole(pack, extents)
    ranges = [(0, pack.size)] if whole else _ranges(extents)
    starts, sizes = tuple(start for start, _ in ranges), tuple(end - start for start, end in ranges)

    def read(start: int, at: int, size: int) -> None:
        found = space.store.read_into(where, memory[at : at + size], start=start)
        got(found)
        if found != size:
            raise CorruptError.of(where, "the pack is shorter than the index says")

    orders = list(zip(starts, accumulate(sizes, initial=0), sizes, strict=False))
    if beside is None or len(orders) == 1:
        for order in orders:
            read(*order)
    else:
        reading = [beside.submit(read, *order) for order in orders]
        wait(reading)  # also where one fails: after that, nobody writes into the memory any more
        for each in reading:
            each.result()
    if whole:
        data = memory[: pack.size]
        if hashlib.sha256(data).hexdigest() != pack.sha256:
            raise CorruptError.of(where, "the pack is not what its name says")
        if not set(extents) <= set(parse_pack(data, where)):
            raise CorruptError.of(where, "the index lists a section that the pack does not have")
    return Fetched(starts, sizes)
