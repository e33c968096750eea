"""What a ccache result holds: the files that a compiler has written. Pure.

The payload is, in big-endian numbers (as ccache 4.7 to 4.14 write them):

    u8 format (0 or 1), u8 count, each: u8 where (0: in here, 1: in a file beside the entry), u8 type, u64 size,
    and in here the file's bytes
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from imagetiers.ccache.format.entry import Kind, check_entry, payload_of
from imagetiers.errors import CorruptError

__all__ = ["ResultFile", "read_result"]

_TYPES = (
    *("object", "dependencies", "stderr", "coverage notes", "stack usage", "diagnostics", "DWARF object"),
    *("coverage notes", "stdout", "assembler listing", "precompiled header", "call graph", "clones"),
)
"""By their numbers in ccache's `core/result.hpp`."""

_COUNT = struct.Struct(">BB")
_FILE = struct.Struct(">BBQ")
_FORMATS = (0, 1)


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of a compile: what it is, and its size in bytes."""

    what: str
    size: int


def read_result(data: bytes) -> tuple[ResultFile, ...]:
    """Return the files of a result's entry. Raises CorruptError."""
    header = check_entry(data)
    payload = payload_of(data, header)
    if header.kind is not Kind.RESULT or payload is None or payload[0] not in _FORMATS:
        raise CorruptError.of("", "not a result of a format that is known")
    files: list[ResultFile] = []
    try:
        _, count = _COUNT.unpack_from(payload)
        at = _COUNT.size
        for _ in range(count):
            beside, number, size = _FILE.unpack_from(payload, at)
            at += _FILE.size + (0 if beside else size)
            files.append(ResultFile(_TYPES[number] if number < len(_TYPES) else f"type {number}", size))
    except struct.error:
        at = -1
    if at != len(payload):
        raise CorruptError.of("", "a result that is not whole")
    return tuple(files)
