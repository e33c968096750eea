"""Index segments: immutable lists of entries and of the packs, sections and offsets where they lie.

A segment is `magic "ITIX" (4), format version 1 (2), zero (2), raw size (8)` and a zstd frame of that many raw bytes:

    number of packs, sections, entries (4 each), bytes of names (4), the push's nonce (8)
    packs     32 bytes SHA-256, 8 bytes nonce, size (8)
    sections  number of the pack (4), then a section row as in a pack's own table (32)
    names     separated by newlines
    columns   one after the other: section (4), offset (8), length (8), file size (8), content id (16),
              creation time in Unix seconds (8), last use in Unix nanoseconds (8, signed)

Integers are little-endian. Columns, because 12,000 rows are then read by a handful of calls. The object's name is made
as a pack's is (`pack.pack_ref`), so a head that names a segment also vouches for every byte of it.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from operator import add, gt, ne
from typing import overload

import zstandard

from imagetiers.ccache.format.entry import Kind, suffix_kind
from imagetiers.ccache.format.pack import Codec, PackRef, SectionRef, Slot
from imagetiers.errors import CorruptError

__all__ = [
    "ENTRIES_MAX",
    "SEGMENT_ENTRIES",
    "Entry",
    "Rows",
    "as_rows",
    "decode_segment",
    "encode_segment",
    "names_of",
    "packs_in",
]

ENTRIES_MAX = 2_000_000
"""Most entries of one segment; a 25 GiB cache of PyTorch's mean entry (62 KB) has 400,000."""

SEGMENT_ENTRIES = 1_000_000
"""Entries of a segment after which a writer begins another one."""

_RAW_MAX = 512 * 1024 * 1024
_PACKS_MAX = 200_000
_SECTIONS_MAX = 500_000
_MAGIC = b"ITIX"
_FORMAT = 1
_HEAD = struct.Struct("<4sHHQ")
_COUNTS = struct.Struct("<IIII8s")
_PACK = struct.Struct("<32s8sQ")
_SECTION = struct.Struct("<IBBHIQQQ")
_COLUMNS = (("I", 4), ("Q", 8), ("Q", 8), ("Q", 8), ("16s", 16), ("Q", 8), ("q", 8))
_ROW_SIZE = sum(size for _, size in _COLUMNS)
_NAME_SIZE = 40
_HEX = b"0123456789abcdef"
_NO_NONCE = "0" * 16
_NAME = rb"(?:[0-9a-f]{40}|[0-9a-f]{4}[0-9a-v]{29}[RM])"
_NAMES = re.compile(_NAME + rb"(?:\n" + _NAME + rb")*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a namespace: its slot, in its section, in its pack."""

    slot: Slot
    section: SectionRef
    pack: PackRef

    @property
    def name(self) -> str:
        """Ccache's name of the entry."""
        return self.slot.name

    @property
    def kind(self) -> Kind:
        """Result or manifest."""
        return self.section.kind


class Rows(Sequence[Entry]):
    """A decoded segment, column by column: 160 bytes an entry, and an Entry is made only when one is asked for.

    `names` are the entries' names in order, `packs` all packs that the segment lists. A section's number, offset and so on
    are checked when the segment is decoded, all of them.
    """

    __slots__ = ("_columns", "_contents", "_places", "names", "packs")

    def __init__(
        self,
        names: list[str],
        packs: tuple[PackRef, ...],
        places: list[tuple[PackRef, SectionRef]],
        columns: tuple[array[int], ...],
        contents: bytes,
    ) -> None:
        self.names = names
        self.packs = packs
        self._places = places
        self._columns = columns
        self._contents = contents

    @property
    def sizes(self) -> array[int]:
        """The entry files' sizes in bytes, in order."""
        return self._columns[3]

    @property
    def mtimes(self) -> array[int]:
        """When the entries were last used, in Unix nanoseconds, in order."""
        return self._columns[5]

    @property
    def kinds(self) -> bytes:
        """The entries' kinds, in order."""
        return bytes(map([section.kind for _, section in self._places].__getitem__, self._columns[0]))

    @property
    def stored(self) -> array[int]:
        """The entries' shares of their sections' stored bytes, in order."""
        parts = [(s.stored, s.raw) if s.codec is Codec.ZSTD else (1, 1) for _, s in self._places]
        lengths = zip(self._columns[2], map(parts.__getitem__, self._columns[0]), strict=True)
        return array("Q", (max(1, stored * length // raw) for length, (stored, raw) in lengths))

    @property
    def places(self) -> Sequence[tuple[PackRef, SectionRef]]:
        """The sections that the segment lists, each with its pack."""
        return self._places

    @property
    def numbers(self) -> array[int]:
        """In which of `places` the entries lie, in order."""
        return self._columns[0]

    def used(self, mtimes: array[int]) -> Rows:
        """Return the same entries with other last uses (Unix nanoseconds, in order)."""
        return Rows(self.names, self.packs, self._places, (*self._columns[:5], mtimes), self._contents)

    def pack(self, at: int) -> PackRef:
        """Return the pack in which an entry lies."""
        return self._places[self._columns[0][at]][0]

    @property
    def contents(self) -> bytes:
        """The entries' content ids, in order, 16 bytes each."""
        return self._contents

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Entry]: ...
    def __getitem__(self, at: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        where, offset, length, size, created, mtime = (column[at] for column in self._columns)
        pack, section = self._places[where]
        at = at % len(self.names)
        content = self._contents[16 * at : 16 * at + 16]
        return Entry(Slot(self.names[at], offset, length, size, content, created, mtime), section, pack)

    def __iter__(self) -> Iterator[Entry]:
        contents = self._contents
        for at, (name, where, offset, length, size, created, mtime) in enumerate(
            zip(self.names, *self._columns, strict=True)
        ):
            pack, section = self._places[where]
            yield Entry(
                Slot(name, offset, length, size, contents[16 * at : 16 * at + 16], created, mtime), section, pack
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == len(self) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]  # a sequence of this size is nobody's key


def names_of(rows: Sequence[Entry]) -> Sequence[str]:
    """Return the names of a segment's entries, in order."""
    return rows.names if isinstance(rows, Rows) else [entry.slot.name for entry in rows]


def packs_in(rows: Sequence[Entry]) -> Iterable[PackRef]:
    """Return the packs that a segment refers to."""
    return rows.packs if isinstance(rows, Rows) else {entry.pack for entry in rows}


def as_rows(rows: Sequence[Entry]) -> Rows:
    """Return a segment's entries column by column."""
    return rows if isinstance(rows, Rows) else decode_segment(encode_segment(rows, _NO_NONCE))


def most_bytes(entries: int) -> int:
    """Return how many bytes a segment of so many entries has at most, before it is compressed."""
    return _COUNTS.size + entries * (_PACK.size + _SECTION.size + _NAME_SIZE + 1 + _ROW_SIZE)


def encode_segment(entries: Iterable[Entry], nonce: str) -> bytes:
    """Encode a segment; packs and sections that several entries share are written once."""
    packs: dict[PackRef, int] = {}
    sections: dict[tuple[PackRef, SectionRef], int] = {}
    columns = tuple(array(code) for code, _ in _COLUMNS if code != "16s")
    contents, names = bytearray(), []
    for entry in entries:
        slot = entry.slot
        packs.setdefault(entry.pack, len(packs))
        place = sections.setdefault((entry.pack, entry.section), len(sections))
        names.append(slot.name)
        contents += slot.content
        values = (place, slot.offset, slot.length, slot.size, slot.created, slot.mtime)
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    count, joined = len(names), "\n".join(names).encode()
    raw = b"".join(
        (
            _COUNTS.pack(len(packs), len(sections), count, len(joined), bytes.fromhex(nonce)),
            *(_PACK.pack(bytes.fromhex(p.sha256), bytes.fromhex(p.name[65:]), p.size) for p in packs),
            *(_SECTION.pack(packs[p], s.codec, s.kind, 0, s.count, s.offset, s.stored, s.raw) for p, s in sections),
            joined,
            *map(_little, columns[:4]),
            contents,
            *map(_little, columns[4:]),
        )
    )
    return _HEAD.pack(_MAGIC, _FORMAT, 0, len(raw)) + zstandard.ZstdCompressor(level=3).compress(raw)


def decode_segment(data: bytes, where: str = "", entries: int = ENTRIES_MAX) -> Rows:
    """Read a segment of at most so many entries and check every value of it. Raises CorruptError."""
    try:
        return _rows(_raw(data, where, min(_RAW_MAX, most_bytes(entries))), where)
    except (struct.error, ValueError, IndexError, OverflowError, zstandard.ZstdError):
        raise CorruptError.of(where, "the index segment is cut off or garbled") from None


def _raw(data: bytes, where: str, most: int) -> bytes:
    magic, version, zero, size = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _FORMAT or zero:
        raise CorruptError.of(where, "not an index segment of format version 1")
    frame = memoryview(data)[_HEAD.size :]
    parameters = zstandard.get_frame_parameters(frame)
    # The window is what a decompressor sets aside; a size of 0 switches its limit off.
    if not _COUNTS.size <= size <= most or parameters.content_size != size or parameters.window_size > _RAW_MAX:
        raise CorruptError.of(where, "the index segment's size is out of range")
    raw = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    if len(raw) != size:
        raise ValueError
    return raw


def _rows(raw: bytes, where: str) -> Rows:
    n_packs, n_sections, n_entries, names_size, _ = _COUNTS.unpack_from(raw)
    starts = list(
        accumulate((_COUNTS.size, n_packs * _PACK.size, n_sections * _SECTION.size, names_size, n_entries * _ROW_SIZE))
    )
    fits = n_entries <= ENTRIES_MAX and n_packs <= min(_PACKS_MAX, n_entries)
    if not fits or n_sections > min(_SECTIONS_MAX, n_entries) or starts[-1] != len(raw):
        raise CorruptError.of(where, "the index segment's counts are out of range")
    packs = tuple(
        PackRef(f"{sha.hex()}-{nonce.hex()}", size)
        for sha, nonce, size in _PACK.iter_unpack(raw[starts[0] : starts[1]])
    )
    places = [
        (packs[p], _section(packs[p], SectionRef(Codec(codec), Kind(kind), *sizes), zero))
        for p, codec, kind, zero, *sizes in _SECTION.iter_unpack(raw[starts[1] : starts[2]])
    ]
    joined = raw[starts[2] : starts[3]]
    names = joined.decode("ascii").split("\n") if n_entries else []
    if len(names) != n_entries or not _are_names(joined, n_entries) or len(set(names)) != n_entries:
        raise CorruptError.of(where, "the index segment lists a name that is no ccache entry's, or one twice")
    columns: list[array[int]] = []
    contents, at = b"", starts[3]
    for code, size in _COLUMNS:
        part = raw[at : at + size * n_entries]
        at += size * n_entries
        if code == "16s":
            contents = part
        else:
            columns.append(_column(code, part))
    if n_entries:
        _check_places(names, places, columns, where)
    return Rows(names, packs, places, tuple(columns), contents)


def _are_names(joined: bytes, count: int) -> bool:
    """Say whether these are names of entries; where all are hex digits in six calls, which takes a seventh of the time."""
    ends = b"\n" * (count - 1)
    if len(joined) == (_NAME_SIZE + 1) * count - 1 and joined[_NAME_SIZE :: _NAME_SIZE + 1] == ends:
        return joined.translate(None, _HEX) == ends
    return not count or _NAMES.fullmatch(joined) is not None


def _check_places(
    names: list[str], places: list[tuple[PackRef, SectionRef]], columns: Sequence[array[int]], where: str
) -> None:
    """Check that each entry lies within its section. Over whole columns: a loop over rows would cost ten times more."""
    numbers, offsets, lengths, sizes, *_ = columns
    if max(numbers) >= len(places):
        raise ValueError
    raws = [section.raw for _, section in places]
    plain = [section.codec is not Codec.ZSTD for _, section in places]
    bad = min(lengths) == 0 or any(map(gt, map(add, offsets, lengths), map(raws.__getitem__, numbers)))
    bad = bad or any(compress(map(ne, lengths, sizes), map(plain.__getitem__, numbers)))
    kinds = [section.kind for _, section in places]
    with_suffix = compress(zip(names, numbers, strict=True), map(_NAME_SIZE.__ne__, map(len, names)))
    bad = bad or any(suffix_kind(name) is not kinds[number] for name, number in with_suffix)
    if bad:
        raise CorruptError.of(where, "the index segment puts an entry where it cannot lie")


def _same(one: Entry, other: object) -> bool:
    return one == other


def _section(pack: PackRef, section: SectionRef, zero: int) -> SectionRef:
    if zero or section.offset + section.stored > pack.size or section.count > ENTRIES_MAX:
        raise ValueError
    return section


def _column(code: str, data: bytes) -> array[int]:
    column = array(code, data)
    if sys.byteorder == "big":  # pragma: no cover
        column.byteswap()
    return column


def _little(column: array[int]) -> bytes:
    if sys.byteorder == "big":  # pragma: no cover
        column.byteswap()
    return column.tobytes()
