"""The last 48 bytes of an object's file in a DirectoryStore: generation, size and checksums.

Why a trailer: content and generation must change in one rename, or a reader could pair the one with the other. Extended
attributes would do, but tmpfs, NFS and overlay lack them here and there. As a trailer, a range of the object is the
same range of the file.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import xxhash

__all__ = ["Trailer"]

_MAGIC = b"imgtier\x01"
_WHOLE = struct.Struct(">8sQQ16s8s")  # magic, generation, size, XXH3-128 of content, XXH3-64 of all that
_HEAD = struct.Struct(">8sQQ16s")


@dataclass(frozen=True, slots=True)
class Trailer:
    """The generation, size in bytes and XXH3-128 of an object's content."""

    generation: int
    size: int
    digest: bytes

    def pack(self) -> bytes:
        """Return the 48 bytes."""
        head = _HEAD.pack(_MAGIC, self.generation, self.size, self.digest)
        return head + xxhash.xxh3_64_digest(head)

    @staticmethod
    def of(fd: int) -> Trailer | None:
        """Read the trailer of an open file; None when it is damaged."""
        content = os.fstat(fd).st_size - _WHOLE.size
        raw = os.pread(fd, _WHOLE.size, content) if content >= 0 else b""
        if len(raw) != _WHOLE.size:
            return None
        magic, generation, size, digest, check = _WHOLE.unpack(raw)
        if magic != _MAGIC or size != content or check != xxhash.xxh3_64_digest(raw[: _HEAD.size]):
            return None
        return Trailer(generation, size, digest)
