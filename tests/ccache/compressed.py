"""The writer of sections that are compressed together, as it was: what buckets of before hold is still read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import zstandard

from imagetiers.ccache.format.entry import TRAILER, Header, Kind, check_entry, payload_of
from imagetiers.ccache.format.pack import Codec, Section, SectionRef, Slot, assemble
from imagetiers.ccache.packing import Pack, Packed

__all__ = ["compressed_pack", "compressed_section", "unwrap"]

_LEVEL_MAX = 6


def unwrap(data: bytes, header: Header) -> bytes | None:
    """Return header + raw payload, from which `rewrap` makes exactly `data` again; None when it would not."""
    if not header.compressed:
        return data[:-TRAILER]
    payload = payload_of(data, header)
    if payload is None or header.level > _LEVEL_MAX:
        return None
    if zstandard.ZstdCompressor(level=header.level).compress(payload) != data[header.length : -TRAILER]:
        return None
    return data[: header.length] + payload


def compressed_section(kind: Kind, files: Sequence[tuple[str, bytes, int]]) -> Section:
    """Compress entry files (name, bytes, mtime in ns) of one kind together; each must come back byte for byte."""
    bodies, slots, at = [], [], 0
    for name, data, mtime in files:
        header = check_entry(data, name)
        body = unwrap(data, header)
        assert body is not None
        slots.append(Slot(name, at, len(body), len(data), data[-TRAILER:], header.created, mtime))
        bodies.append(body)
        at += len(body)
    raw = b"".join(bodies)
    return Section(Codec.ZSTD, kind, tuple(slots), zstandard.ZstdCompressor(level=3).compress(raw), len(raw))


@dataclass(frozen=True)
class _Compressed(Packed):
    """A pack whose entries are longer as files than in it."""

    made: tuple[tuple[Slot, SectionRef], ...] = ()

    def slots(self) -> Iterator[tuple[Slot, SectionRef]]:
        return iter(self.made)


def compressed_pack(order: Pack, memory: memoryview) -> Packed:
    """Do the order as it was done then."""
    by_kind = groupby(order.files, lambda file: file.kind)
    made = [
        compressed_section(kind, [(f.name, Path(f.file.path).read_bytes(), f.file.mtime) for f in some])
        for kind, some in by_kind
    ]
    data, refs = assemble(made)
    memory[: len(data)] = data
    slots = [(slot, ref) for section, ref in zip(made, refs, strict=True) for slot in section.slots]
    return _Compressed(0, len(data), hashlib.sha256(data).hexdigest(), (), (), (), tuple(slots))
