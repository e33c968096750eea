"""Packs: immutable objects of at most 8 MiB that hold many entries, so that one multipart request uploads one.

A pack is a table of sections followed by their bytes, back to back. Integers are little-endian:

    magic "ITPK" (4), format version 1 (2), number of sections (2), then for each section
    codec (1), kind of entries (1), zero (2), number of entries (4), offset in the pack (8), stored size (8),
    raw size (8)

Codecs: 0 VERBATIM, whole entry files one after the other, each readable by a range request; 1 ZSTD, entries without
their trailers and with raw payloads (`entry.rewrap` makes files of them again), compressed together, which is read and not
written any more; 2 BARE, the object is one entry file and has no table (entries too large for a pack, streamed from and to
files). Which entry lies where is said by the index.

A pack's name is the SHA-256 of its bytes, a hyphen, and 16 hex digits drawn by the push that wrote it: no two pushes
ever write the same name, so a pack that nobody refers to yet is never adopted while housekeeping is about to delete it.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import zstandard

from imagetiers.ccache.format.entry import TRAILER, Kind, check_entry, parse_header, rewrap
from imagetiers.errors import CorruptError

__all__ = [
    "BARE_MIN",
    "PACK_MAX",
    "RAW_MAX",
    "Codec",
    "PackRef",
    "Section",
    "SectionRef",
    "Slot",
    "assemble",
    "decode_section",
    "make_section",
    "make_table",
    "pack_ref",
    "parse_pack",
    "restore_entry",
    "table_size",
]

PACK_MAX = 8 * 1024 * 1024
"""Most bytes of a pack: the largest upload that google-cloud-storage sends as one multipart request."""

BARE_MIN = 6 * 1024 * 1024
"""Entry files larger than this many bytes become objects of their own."""

RAW_MAX = 8 * 1024 * 1024
"""Most raw bytes of a compressed section, so that a reader's memory is bounded whatever it meets."""

_RATIO_MAX = 20_000
_SECTIONS_MAX = 4096
_BARE_SIZE_MAX = 4 << 30
_MAGIC = b"ITPK"
_FORMAT = 1
_HEAD = struct.Struct("<4sHH")
_ROW = struct.Struct("<BBHIQQQ")
_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}")


class Codec(IntEnum):
    """How a section's entries are stored (see the module)."""

    VERBATIM = 0
    ZSTD = 1
    BARE = 2


@dataclass(frozen=True, slots=True)
class PackRef:
    """An object that holds entries: its name (`<sha256>-<nonce>`) and size in bytes."""

    name: str
    size: int

    def __post_init__(self) -> None:
        """Refuse what no pack can be; raises CorruptError."""
        if not _NAME.fullmatch(self.name) or not 0 < self.size <= _BARE_SIZE_MAX:
            raise CorruptError.of(self.name[:100], "not a pack's name and size")

    @property
    def sha256(self) -> str:
        """The SHA-256 of the object's bytes, in hex."""
        return self.name[:64]


@dataclass(frozen=True, slots=True)
class SectionRef:
    """A section as an index and a pack's table describe it; offsets and sizes in bytes."""

    codec: Codec
    kind: Kind
    count: int
    offset: int
    stored: int
    raw: int

    def __post_init__(self) -> None:
        """Refuse sizes that would hurt a reader; raises CorruptError."""
        limit = _BARE_SIZE_MAX if self.codec is Codec.BARE else PACK_MAX
        bad = self.stored > limit or self.offset + self.stored > limit or not self.stored or not self.count
        if self.codec is Codec.ZSTD:
            bad = bad or not 0 < self.raw <= RAW_MAX or self.raw > self.stored * _RATIO_MAX
        else:
            bad = bad or self.raw != self.stored
        if bad or (self.codec is Codec.BARE and (self.count, self.offset) != (1, 0)):
            raise CorruptError.of("", "a section's sizes are out of range")


@dataclass(frozen=True, slots=True)
class Slot:
    """One entry's place in a section. `offset` and `length` count bytes of the decoded section, `size` of the file.

    `created` is the header's creation time (Unix seconds), `mtime` the file's (Unix nanoseconds).
    """

    name: str
    offset: int
    length: int
    size: int
    content: bytes
    created: int
    mtime: int


@dataclass(frozen=True, slots=True)
class Section:
    """An encoded section on its way into a pack."""

    codec: Codec
    kind: Kind
    slots: tuple[Slot, ...]
    data: bytes | memoryview
    raw: int


def make_section(kind: Kind, files: Sequence[tuple[str, bytes, int]]) -> Section:
    """Make a section of checked entry files (name, bytes, mtime in ns) of one kind, at least one.

    That they are whole was checked before: raises CorruptError only for what has not even a header.
    """
    slots = []
    at = 0
    for name, data, mtime in files:
        created = parse_header(data, name).created
        slots.append(Slot(name, at, len(data), len(data), data[-TRAILER:], created, mtime))
        at += len(data)
    return Section(Codec.VERBATIM, kind, tuple(slots), b"".join(data for _, data, _ in files), at)


def assemble(sections: Iterable[Section]) -> tuple[bytes, tuple[SectionRef, ...]]:
    """Make a pack of sections; return its bytes and the table. The caller keeps it below PACK_MAX."""
    made = list(sections)
    at = _HEAD.size + _ROW.size * len(made)
    refs = []
    for section in made:
        size = len(section.data)
        refs.append(SectionRef(section.codec, section.kind, len(section.slots), at, size, section.raw))
        at += size
    return b"".join((make_table(refs), *(section.data for section in made))), tuple(refs)


def make_table(sections: Sequence[SectionRef]) -> bytes:
    """Make the bytes with which a pack of these sections begins."""
    rows = b"".join(_ROW.pack(r.codec, r.kind, 0, r.count, r.offset, r.stored, r.raw) for r in sections)
    return _HEAD.pack(_MAGIC, _FORMAT, len(sections)) + rows


def table_size(sections: int) -> int:
    """Bytes that a pack of this many sections needs besides their data."""
    return _HEAD.size + _ROW.size * sections


def pack_ref(data: bytes, nonce: str) -> PackRef:
    """Name a pack by its bytes and the push's nonce (16 hex digits)."""
    return PackRef(f"{hashlib.sha256(data).hexdigest()}-{nonce}", len(data))


def parse_pack(data: bytes | memoryview, where: str = "") -> tuple[SectionRef, ...]:
    """Read a pack's table. Raises CorruptError unless its sections lie back to back and fill the pack exactly."""
    try:
        magic, version, count = _HEAD.unpack_from(data)
        if magic != _MAGIC or version != _FORMAT or not 0 < count <= _SECTIONS_MAX:
            raise CorruptError.of(where, "not a pack of format version 1")
        refs = []
        at = _HEAD.size + _ROW.size * count
        for row in range(count):
            codec, kind, zero, entries, offset, stored, raw = _ROW.unpack_from(data, _HEAD.size + _ROW.size * row)
            if zero or offset != at or codec == Codec.BARE:
                raise CorruptError.of(where, "the pack's table is not in order")
            refs.append(SectionRef(Codec(codec), Kind(kind), entries, offset, stored, raw))
            at += stored
    except (struct.error, ValueError):
        raise CorruptError.of(where, "the pack's table is cut off or garbled") from None
    if at != len(data):
        raise CorruptError.of(where, "the pack's sections do not fill it")
    return tuple(refs)


def decode_section(section: SectionRef, stored: bytes | memoryview, where: str = "") -> bytes | memoryview:
    """Return a section's decoded bytes; never more than its `raw` size. Raises CorruptError."""
    if len(stored) != section.stored:
        raise CorruptError.of(where, "a section is cut off")
    if section.codec is not Codec.ZSTD:
        return stored
    try:
        frame = zstandard.get_frame_parameters(stored)
        if frame.content_size != section.raw or frame.window_size > RAW_MAX * 2:
            raise CorruptError.of(where, "a section's size is not the one that the index says")
        raw = zstandard.ZstdDecompressor().decompress(stored, max_output_size=section.raw, allow_extra_data=False)
    except zstandard.ZstdError:
        raise CorruptError.of(where, "a section does not decompress") from None
    if len(raw) != section.raw:
        raise CorruptError.of(where, "a section's size is not the one that the index says")
    return raw


def restore_entry(codec: Codec, slot: Slot, decoded: bytes | memoryview, kind: Kind) -> bytes | memoryview:
    """Make one entry's file from its slice of a decoded section and check all of it. Raises CorruptError.

    What was stored as it is comes back as that slice, uncopied.
    """
    if len(decoded) != slot.length:
        raise CorruptError.of(slot.name, "the entry is cut off")
    data = rewrap(decoded, slot.name) if codec is Codec.ZSTD else decoded
    if len(data) != slot.size or data[-TRAILER:] != slot.content:
        raise CorruptError.of(slot.name, "the entry is not the one that the index says")
    if check_entry(data, slot.name).kind is not kind:
        raise CorruptError.of(slot.name, "the entry is not of the kind that the index says")
    return data


def split(section: Section, room: int) -> tuple[Section, Section] | None:
    """Cut a verbatim section so that the first part fits in `room` bytes; None when that cannot be done."""
    if section.codec is not Codec.VERBATIM:
        return None
    cut = sum(1 for slot in section.slots if slot.offset + slot.length <= room)
    if not 0 < cut < len(section.slots):
        return None
    at = section.slots[cut].offset
    rest = tuple(replace(slot, offset=slot.offset - at) for slot in section.slots[cut:])
    whole = memoryview(section.data)
    first, second = whole[:at], whole[at:]
    return (
        replace(section, slots=section.slots[:cut], data=first, raw=len(first)),
        replace(section, slots=rest, data=second, raw=len(second)),
    )
