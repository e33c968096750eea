"""ccache's entry files: their names, header, trailer, and how the bytes of one are made of its raw payload.

Source of facts: ccache's own source, v4.7.5 to v4.14 (`core/cacheentry.cpp`, `storage/local/localstorage.cpp`), and
runs of 4.7.5, 4.11.2 and 4.14.2. Multi-byte integers are big-endian. One file is

    magic "cc ac" (2), format version 1 (1), type (1: 0 result, 1 manifest), compression (1: 0 none, 1 zstd),
    level (1, signed), self-contained (1), creation time in Unix seconds (8), ccache version (1 + n), namespace (1 + n),
    size of the whole file were its payload not compressed (8), payload, XXH3-128 of everything before (16)

A name is the key and, up to ccache 4.12, a suffix for the type. ccache spreads names over 2 to 4 folder levels and
moves them between levels, so only the joined path is the name; it looks a key up at level 2 first, then 3, then 4.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

import xxhash
import zstandard

from imagetiers.errors import CorruptError

__all__ = [
    "HEADER_MAX",
    "TRAILER",
    "Header",
    "Kind",
    "are_names",
    "check_entry",
    "content_id",
    "is_name",
    "name_of",
    "parse_header",
    "path_of",
    "payload_of",
    "rewrap",
    "suffix_kind",
]

TRAILER = 16
"""Bytes of the checksum at the end of an entry; also its content id."""

HEADER_MAX = 20 + 2 + 2 * 255
"""The longest possible header in bytes: two strings of at most 255 bytes each."""

PAYLOAD_MAX = 32 * 1024 * 1024
"""Payloads larger than this many bytes are never unpacked: memory is bounded."""

_LEVEL_MAX = 6
"""Entries compressed harder than this were never packed anew: putting them back would cost seconds and memory."""

_MAGIC = 0xCCAC
_FORMAT = 1
_FIXED = struct.Struct(">HBBBbBQ")
_SIZE = struct.Struct(">Q")
_NAME = re.compile(r"[0-9a-f]{4}[0-9a-v]{29}[RM]|[0-9a-f]{40}")
_OLD_LENGTH = 34
_NEW_LENGTH = 40
_HEX = b"0123456789abcdef"
_LEVELS = range(2, 5)
_per_thread = threading.local()


class Kind(IntEnum):
    """What an entry is: a compiler's result (immutable in practice) or a manifest (ccache rewrites it)."""

    RESULT = 0
    MANIFEST = 1


@dataclass(frozen=True, slots=True)
class Header:
    """An entry's header. `created` is Unix seconds, `entry_size` and `length` (of the header itself) bytes."""

    kind: Kind
    compressed: bool
    level: int
    self_contained: bool
    created: int
    ccache_version: str
    namespace: str
    entry_size: int
    length: int

    @property
    def payload_size(self) -> int:
        """Bytes of the payload when it is not compressed."""
        return self.entry_size - self.length - TRAILER


def is_name(text: str) -> bool:
    """Say whether this is exactly an entry's name of either scheme (33 characters + R or M; 40 hex digits)."""
    return _NAME.fullmatch(text) is not None


def are_names(texts: Collection[str]) -> bool:
    """Say whether every one of these is an entry's name; for many of the scheme of today in a fraction of the time."""
    together = "".join(texts)
    if together.isascii() and set(map(len, texts)) == {_NEW_LENGTH}:
        return not together.encode().translate(None, _HEX)
    return all(map(is_name, texts))


def name_of(*components: str) -> str | None:
    """Join the components of a path below the cache directory into an entry's name; None when it is no entry."""
    *folders, _ = components
    if len(folders) not in _LEVELS or any(len(folder) != 1 for folder in folders):
        return None
    name = "".join(components)
    return name if is_name(name) else None


def path_of(name: str) -> str:
    """Return the level-2 path of an entry, relative to the cache directory: valid for reading in every version."""
    return f"{name[0]}/{name[1]}/{name[2:]}"


def suffix_kind(name: str) -> Kind | None:
    """Tell the kind by the name where the scheme says it (<= 4.12); None where only the header knows (>= 4.13)."""
    if len(name) != _OLD_LENGTH:
        return None
    return Kind.RESULT if name[-1] == "R" else Kind.MANIFEST


def parse_header(data: bytes | memoryview, name: str = "") -> Header:
    """Read the header at the start of `data` (HEADER_MAX bytes suffice). Raises CorruptError."""
    view = bytes(data[:HEADER_MAX])
    try:
        magic, version, kind, compression, level, self_contained, created = _FIXED.unpack_from(view)
        ccache_version, at = _text(view, _FIXED.size)
        namespace, at = _text(view, at)
        (entry_size,) = _SIZE.unpack_from(view, at)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise CorruptError.of(name, "the entry's header is cut off or garbled") from None
    length = at + _SIZE.size
    if magic != _MAGIC or version != _FORMAT:
        raise CorruptError.of(name, "not a ccache entry of format version 1")
    if kind > Kind.MANIFEST or compression > 1 or entry_size < length + TRAILER:
        raise CorruptError.of(name, "the entry's header has values out of range")
    return Header(
        Kind(kind),
        compression == 1,
        level,
        bool(self_contained),
        created,
        ccache_version,
        namespace,
        entry_size,
        length,
    )


def content_id(data: bytes | memoryview) -> bytes:
    """Return the last 16 bytes: the content id that ccache computed for this entry."""
    return bytes(data[-TRAILER:])


def check_entry(data: bytes | memoryview, name: str = "") -> Header:
    """Check a whole entry file: header, kind against the name, size, checksum. Raises CorruptError."""
    header = parse_header(data, name)
    expected = suffix_kind(name)
    if expected is not None and expected is not header.kind:
        raise CorruptError.of(name, "the header's type is not the one in the name")
    if len(data) <= header.length + TRAILER or (not header.compressed and len(data) != header.entry_size):
        raise CorruptError.of(name, "the entry's size does not match its header")
    if xxhash.xxh3_128_digest(memoryview(data)[:-TRAILER]) != data[-TRAILER:]:
        raise CorruptError.of(name, "the entry's checksum does not match its content")
    return header


def payload_of(data: bytes, header: Header) -> bytes | None:
    """Return an entry's raw payload; None when it is none that ccache would write."""
    body = memoryview(data)[header.length : -TRAILER]
    if not header.compressed:
        return bytes(body)
    return _payload(body, header.payload_size) if 0 < header.payload_size <= PAYLOAD_MAX else None


def _payload(frame: memoryview, size: int) -> bytes | None:
    """Decompress a payload of exactly that size (more than 0); None when it is no such."""
    try:
        # A frame that says how large its content is gets that much memory, whatever limit is given; and a limit of 0 is none.
        if zstandard.get_frame_parameters(frame).content_size not in (size, zstandard.CONTENTSIZE_UNKNOWN):
            return None
        payload = _decompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        return None
    return payload if len(payload) == size else None


def rewrap(body: bytes | memoryview, name: str = "") -> bytes:
    """Make the entry file whose header and raw payload `body` holds, as packs of before had it. Raises CorruptError."""
    header = parse_header(body, name)
    if len(body) != header.entry_size - TRAILER:
        raise CorruptError.of(name, "the unpacked entry's size does not match its header")
    if header.compressed and header.level > _LEVEL_MAX:
        raise CorruptError.of(name, "an unpacked entry with a compression level that is never unpacked")
    if header.compressed:
        made = bytes(body[: header.length]) + _compressor(header.level).compress(body[header.length :])
    else:
        made = bytes(body)
    return made + xxhash.xxh3_128_digest(made)


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    if end > len(data):
        raise IndexError
    return data[at + 1 : end].decode(), end


def _compressor(level: int) -> zstandard.ZstdCompressor:
    """Return this thread's compressor: they are costly to make and must not be shared."""
    made: dict[int, zstandard.ZstdCompressor] | None = getattr(_per_thread, "compressors", None)
    if made is None:
        made = _per_thread.compressors = {}
    if level not in made:
        made[level] = zstandard.ZstdCompressor(level=level)
    return made[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    made: zstandard.ZstdDecompressor | None = getattr(_per_thread, "decompressor", None)
    if made is None:
        made = _per_thread.decompressor = zstandard.ZstdDecompressor()
    return made
