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

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import zstandard

from imagetiers.ccache.entry import Kind, is_name, suffix_kind
from imagetiers.ccache.pack import Codec, PackRef, SectionRef, Slot
from imagetiers.errors import CorruptError

__all__ = ["ENTRIES_MAX", "Entry", "decode_segment", "encode_segment"]

ENTRIES_MAX = 2_000_000
"""Most entries of one segment; a 25 GiB cache of PyTorch's mean entry (62 KB) has 400,000."""

_RAW_MAX = 256 * 1024 * 1024
_MAGIC = b"ITIX"
_FORMAT = 1
_HEAD = struct.Struct("<4sHHQ")
_COUNTS = struct.Struct("<IIII8s")
_PACK = struct.Struct("<32s8sQ")
_SECTION = struct.Struct("<IBBHIQQQ")
_COLUMNS = (("I", 4), ("Q", 8), ("Q", 8), ("Q", 8), ("16s", 16), ("Q", 8), ("q", 8))
_ROW_SIZE = sum(size for _, size in _COLUMNS)


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


def encode_segment(entries: Iterable[Entry], nonce: str) -> bytes:
    """Encode a segment; packs and sections that several entries share are written once."""
    packs: dict[PackRef, int] = {}
    sections: dict[tuple[PackRef, SectionRef], int] = {}
    rows = list(entries)
    where = []
    for entry in rows:
        packs.setdefault(entry.pack, len(packs))
        where.append(sections.setdefault((entry.pack, entry.section), len(sections)))
    names = "\n".join(entry.slot.name for entry in rows).encode()
    columns = (
        array("I", where),
        array("Q", [entry.slot.offset for entry in rows]),
        array("Q", [entry.slot.length for entry in rows]),
        array("Q", [entry.slot.size for entry in rows]),
        b"".join(entry.slot.content for entry in rows),
        array("Q", [entry.slot.created for entry in rows]),
        array("q", [entry.slot.mtime for entry in rows]),
    )
    raw = b"".join(
        (
            _COUNTS.pack(len(packs), len(sections), len(rows), len(names), bytes.fromhex(nonce)),
            *(_PACK.pack(bytes.fromhex(p.sha256), bytes.fromhex(p.name[65:]), p.size) for p in packs),
            *(_SECTION.pack(packs[p], s.codec, s.kind, 0, s.count, s.offset, s.stored, s.raw) for p, s in sections),
            names,
            *(_little(column) for column in columns),
        )
    )
    return _HEAD.pack(_MAGIC, _FORMAT, 0, len(raw)) + zstandard.ZstdCompressor(level=3).compress(raw)


def decode_segment(data: bytes, where: str = "") -> tuple[Entry, ...]:
    """Read a segment and check every value of it. Raises CorruptError."""
    try:
        raw = _raw(data, where)
        return tuple(_entries(raw, where))
    except (struct.error, ValueError, IndexError, OverflowError, zstandard.ZstdError):
        raise CorruptError.of(where, "the index segment is cut off or garbled") from None


def _raw(data: bytes, where: str) -> bytes:
    magic, version, zero, size = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != _FORMAT or zero:
        raise CorruptError.of(where, "not an index segment of format version 1")
    frame = memoryview(data)[_HEAD.size :]
    if size > _RAW_MAX or zstandard.get_frame_parameters(frame).content_size != size:
        raise CorruptError.of(where, "the index segment's size is out of range")
    raw = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    if len(raw) != size:
        raise ValueError
    return raw


def _entries(raw: bytes, where: str) -> Iterator[Entry]:
    n_packs, n_sections, n_entries, names_size, _ = _COUNTS.unpack_from(raw)
    starts = list(
        accumulate((_COUNTS.size, n_packs * _PACK.size, n_sections * _SECTION.size, names_size, n_entries * _ROW_SIZE))
    )
    if n_entries > ENTRIES_MAX or starts[-1] != len(raw):
        raise CorruptError.of(where, "the index segment's counts are out of range")
    packs = [
        PackRef(f"{sha.hex()}-{nonce.hex()}", size)
        for sha, nonce, size in _PACK.iter_unpack(raw[starts[0] : starts[1]])
    ]
    sections = [
        (packs[p], _section(packs[p], SectionRef(Codec(codec), Kind(kind), *sizes), zero))
        for p, codec, kind, zero, *sizes in _SECTION.iter_unpack(raw[starts[1] : starts[2]])
    ]
    names = raw[starts[2] : starts[3]].decode("ascii").split("\n") if n_entries else []
    if len(names) != n_entries or len(set(names)) != n_entries or not all(map(is_name, names)):
        raise CorruptError.of(where, "the index segment lists a name that is no ccache entry's, or one twice")
    columns = []
    at = starts[3]
    for code, size in _COLUMNS:
        columns.append(_column(code, raw[at : at + size * n_entries]))
        at += size * n_entries
    for name, number, offset, length, size, content, created, mtime in zip(names, *columns, strict=True):
        pack, section = sections[number]
        expected = suffix_kind(name)
        fits = offset + length <= section.raw and length and (section.codec is Codec.ZSTD or length == size)
        if not fits or (expected is not None and expected is not section.kind):
            raise CorruptError.of(where, f"the index segment puts {name} where it cannot lie")
        yield Entry(Slot(name, offset, length, size, content, created, mtime), section, pack)


def _section(pack: PackRef, section: SectionRef, zero: int) -> SectionRef:
    if zero or section.offset + section.stored > pack.size or section.count > ENTRIES_MAX:
        raise ValueError
    return section


def _column(code: str, data: bytes) -> list[int] | list[bytes]:
    if code == "16s":
        return [data[at : at + 16] for at in range(0, len(data), 16)]
    column = array(code, data)
    if sys.byteorder == "big":  # pragma: no cover
        column.byteswap()
    return column.tolist()


def _little(column: array[int] | bytes) -> bytes:
    if isinstance(column, bytes):
        return column
    if sys.byteorder == "big":  # pragma: no cover
        column.byteswap()
    return column.tobytes()
