"""The cache in which glibc's loader looks for libraries: /etc/ld.so.cache, as ldconfig of glibc 2.2 and newer writes it."""

from __future__ import annotations

import struct

from imagetiers.binaries.elf import FormatError

__all__ = ["read_loader_cache"]

_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
_MOST = 1_000_000


def read_loader_cache(data: bytes) -> dict[str, tuple[str, ...]]:
    """Return the paths by the name that programs ask for. Raises FormatError for what is not laid out so."""
    start = data.find(_MAGIC)
    if start < 0 or start + _HEADER.size > len(data):
        raise FormatError("it is no cache of glibc's loader")
    _, count, _, _, _ = _HEADER.unpack_from(data, start)
    if count > _MOST or start + _HEADER.size + count * _ENTRY.size > len(data):
        raise FormatError("its table is damaged")
    found: dict[str, list[str]] = {}
    for index in range(count):
        _, name, path, _, _ = _ENTRY.unpack_from(data, start + _HEADER.size + index * _ENTRY.size)
        found.setdefault(_text(data, start + name), []).append(_text(data, start + path))
    return {name: tuple(paths) for name, paths in found.items()}


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at)
    if not 0 <= at < len(data) or end < 0:
        raise FormatError(f"no text at byte {at}")
    return data[at:end].decode(errors="replace")
