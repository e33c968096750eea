"""What a ccache manifest tells: which files the results of a source included, and what they were then. Pure.

The payload is, in big-endian numbers (as ccache 4.11 and 4.14 write them):

    u8 format (1)
    u32 count, each: u16 length, path
    u32 count, each: u32 path, 20 bytes digest, u64 size, i64 mtime, i64 ctime      files as they were
    u32 count, each: u32 count, u32 file ..., 20 bytes key                          results, the newest last
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from imagetiers.ccache.format.entry import Kind, check_entry, payload_of, suffix_kind
from imagetiers.errors import CorruptError

__all__ = ["ManifestResult", "changed_files", "read_manifest"]

_DIGEST = 20
_FILE = struct.Struct(f">I{_DIGEST}sQqq")
_NUMBER = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_HEX_BYTES = 2


@dataclass(frozen=True, slots=True)
class ManifestResult:
    """A result that a manifest knows: the files that it included, with their digests, and its key (20 bytes)."""

    files: Mapping[str, bytes]
    key: bytes

    def name(self, manifest: str) -> str:
        """Return the result's name, as ccache writes it whose entry `manifest` is."""
        if suffix_kind(manifest) is None:
            return self.key.hex()
        rest = base64.b32hexencode(self.key[_HEX_BYTES:]).decode().rstrip("=").lower()
        return f"{self.key[:_HEX_BYTES].hex()}{rest}R"


def changed_files(data: bytes) -> tuple[str, ...]:
    """Return the files that differ between the two newest results of a manifest's entry; none where that cannot be said."""
    try:
        results = read_manifest(data)
    except CorruptError:
        return ()
    for before, after in pairwise(results[-2:]):
        return tuple(path for path, digest in before.files.items() if after.files.get(path) != digest)
    return ()


def read_manifest(data: bytes) -> tuple[ManifestResult, ...]:
    """Return the results of a manifest's entry, the newest last. Raises CorruptError."""
    header = check_entry(data)
    payload = payload_of(data, header)
    if header.kind is not Kind.MANIFEST or payload is None or payload[:1] != b"\1":
        raise CorruptError.of("", "not a manifest of a format that is known")
    try:
        return _results(payload)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise CorruptError.of("", "a manifest that is not whole") from None


def _results(payload: bytes) -> tuple[ManifestResult, ...]:
    at = 1

    def number() -> int:
        nonlocal at
        (value,) = _NUMBER.unpack_from(payload, at)
        at += _NUMBER.size
        return int(value)

    paths: list[str] = []
    for _ in range(number()):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        paths.append(payload[at : at + length].decode(errors="surrogateescape"))
        at += length
    files: list[tuple[str, bytes]] = []
    for _ in range(number()):
        path, digest, *_ = _FILE.unpack_from(payload, at)
        files.append((paths[path], digest))
        at += _FILE.size
    results: list[ManifestResult] = []
    for _ in range(number()):
        included = dict(files[number()] for _ in range(number()))
        results.append(ManifestResult(included, payload[at : at + _DIGEST]))
        at += _DIGEST
    if at != len(payload):
        raise IndexError
    return tuple(results)
