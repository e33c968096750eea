"""Synthetic ccache directories: valid entries of either naming scheme, deterministic by seed."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import xxhash
import zstandard

ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def make_name(seed: int, kind: int = 0, *, new: bool = True) -> str:
    draw = random.Random(f"name {seed}")
    if new:
        return f"{draw.getrandbits(160):040x}"
    return f"{draw.getrandbits(16):04x}" + "".join(draw.choice(ALPHABET) for _ in range(29)) + "RM"[kind]


def make_entry(
    payload: bytes,
    *,
    kind: int = 0,
    created: int = 1_700_000_000,
    level: int = 1,
    compressed: bool = True,
    self_contained: bool = True,
    version: str = "4.14.2",
    namespace: str = "",
) -> bytes:
    head = struct.pack(">HBBBbBQ", 0xCCAC, 1, kind, int(compressed), level, int(self_contained), created)
    for text in (version, namespace):
        head += bytes([len(text)]) + text.encode()
    head += struct.pack(">Q", len(head) + 8 + len(payload) + 16)
    body = head + (zstandard.ZstdCompressor(level=level).compress(payload) if compressed else payload)
    return body + xxhash.xxh3_128_digest(body)


def put_entry(
    directory: Path, name: str, data: bytes, *, mtime: int = 1_750_000_000_000_000_000, level: int = 2
) -> Path:
    path = directory.joinpath(*name[:level], name[level:])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(mtime, mtime))
    return path


def make_directory(
    directory: Path, count: int, *, seed: int = 0, mean: int = 4000, manifests: float = 0.5, new: bool = True
) -> dict[str, bytes]:
    """Make `count` entries; manifests compress, results do not. Return them by name."""
    draw = random.Random(seed)
    made = {}
    common = draw.randbytes(mean)
    for number in range(count):
        kind = int(draw.random() < manifests)
        size = min(8 << 20, max(64, int(draw.lognormvariate(0, 1.75) * mean / 4.6)))
        payload = (common * (size // mean + 1))[: size - 16] + draw.randbytes(16) if kind else draw.randbytes(size)
        name = make_name(seed * 1_000_003 + number, kind, new=new)
        data = make_entry(payload, kind=kind, created=1_700_000_000 + number)
        put_entry(directory, name, data, mtime=1_750_000_000_000_000_000 + number * 1_000_003)
        made[name] = data
    return made


def entries_in(directory: Path) -> dict[str, bytes]:
    """Read a cache directory back: entry files by name, whatever their level."""
    found = {}
    for path in directory.rglob("*"):
        parts = path.relative_to(directory).parts
        if len(parts) >= 3 and path.is_file() and len("".join(parts)) in {34, 40} and parts[0] != "imagetiers":
            found["".join(parts)] = path.read_bytes()
    return found
