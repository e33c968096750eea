"""Fetch what is wanted of one pack, whole or by ranges, and check all of it before anybody sees a byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.pack import Codec, PackRef, SectionRef, decode_section, parse_pack, restore_entry
from imagetiers.ccache.namespace import Namespace
from imagetiers.errors import CorruptError

__all__ = ["GAP_MAX", "WHOLE_SHARE", "Extents", "Wanted", "extents_of", "fetch", "fetched_size"]

GAP_MAX = 256 * 1024
"""Ranges nearer than this many bytes are fetched as one: a request costs more than these bytes."""

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
    space: Namespace, pack: PackRef, wanted: Sequence[Wanted], extents: Extents, got: Callable[[int], None]
) -> list[tuple[Wanted, bytes | memoryview]]:
    """Fetch and check all that is wanted of a pack. Raises CorruptError, NotFoundError before anything is applied."""
    where = space.object("packs", pack.name)
    pieces: list[tuple[int, memoryview]] = []
    if _whole(pack, extents):
        data, _ = space.store.read(where, length=pack.size + 1)
        got(len(data))
        if len(data) != pack.size or hashlib.sha256(data).hexdigest() != pack.sha256:
            raise CorruptError.of(where, "the pack is not what its name says")
        if not set(extents) <= set(parse_pack(data, where)):
            raise CorruptError.of(where, "the index lists a section that the pack does not have")
        pieces.append((0, memoryview(data)))
    else:
        for start, end in _ranges(extents):
            data, _ = space.store.read(where, start=start, length=end - start)
            got(len(data))
            if len(data) != end - start:
                raise CorruptError.of(where, "the pack is shorter than the index says")
            pieces.append((start, memoryview(data)))
    return list(_restored(wanted, pieces, where))


def _restored(
    wanted: Sequence[Wanted], pieces: Sequence[tuple[int, memoryview]], where: str
) -> Iterator[tuple[Wanted, bytes | memoryview]]:
    decoded_of: SectionRef | None = None
    decoded: bytes | memoryview = b""
    order = sorted(wanted, key=lambda one: (one.entry.section.offset, one.entry.slot.offset))
    for one in order:
        section, slot = one.entry.section, one.entry.slot
        if section.codec is Codec.VERBATIM:
            start = section.offset + slot.offset
            part: bytes | memoryview = _cut(pieces, start, start + slot.length)
        else:
            if section != decoded_of:
                stored = _cut(pieces, section.offset, section.offset + section.stored)
                decoded, decoded_of = decode_section(section, stored, where), section
            part = memoryview(decoded)[slot.offset : slot.offset + slot.length]
        yield one, restore_entry(section.codec, slot, part, one.entry.kind)


def _cut(pieces: Sequence[tuple[int, memoryview]], start: int, end: int) -> memoryview:
    for at, data in pieces:
        if at <= start and end <= at + len(data):
            return data[start - at : end - at]
    raise CorruptError.of("", "the index lists bytes that the pack does not have")
