"""Cache directories to measure with: valid ccache entries shaped like a PyTorch build's, and what a build changes.

Sizes are log-normal (median 12.5 KB, mean 58 KB, at most 8 MiB), half are results, half manifests, and all payloads are
random: nothing compresses, so no method wins by bytes. Names are ccache 4.13's (40 hex digits). Deterministic by seed.
"""

# ruff: noqa: PTH103, PTH116, PTH118, PTH119, PTH120  12,000 files many times over: pathlib is several times slower

from __future__ import annotations

import os
import random
import secrets
import shutil
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash
import zstandard

MEDIAN, SIGMA, LARGEST = 12_500, 1.75, 8 << 20
CREATED = 1_790_000_000
"""Unix seconds of the oldest entry; each next one is a second younger, in its header and in its mtime."""

Times = dict[str, int]


@dataclass(frozen=True)
class Change:
    """What one build changes: manifests that ccache rewrote, entries that are new (paths relative to the cache)."""

    rewritten: tuple[str, ...]
    added: tuple[str, ...]


def make_entry(draw: random.Random, size: int, kind: int, created: int) -> bytes:
    """Make an entry file of about `size` bytes: header, zstd level 1 of random bytes, XXH3-128 of all that."""
    head = struct.pack(">HBBBbBQ", 0xCCAC, 1, kind, 1, 1, 1, created)
    head += b"\x064.14.2\x00"
    payload = draw.randbytes(max(16, size - len(head) - 40))
    head += struct.pack(">Q", len(head) + 8 + len(payload) + 16)
    body = head + zstandard.ZstdCompressor(level=1).compress(payload)
    return body + xxhash.xxh3_128_digest(body)


def make_cache(folder: Path, count: int, *, seed: int = 1) -> None:
    """Fill a directory with `count` entries."""
    draw = random.Random(seed)
    for number in range(count):
        _put(folder, draw, number)


def make_change(base: Path, changed: Path, count: int) -> Change:
    """Write into `changed` what a build changes of `base`: 1 % of all entries rewritten (manifests), 1 % added."""
    draw = random.Random(2)
    share = max(1, count // 100)
    manifests = [path for path in paths(base) if _kind(base / path) == 1]
    rewritten = sorted(draw.sample(manifests, share))
    for path in rewritten:
        size = (base / path).stat().st_size
        (changed / path).parent.mkdir(parents=True, exist_ok=True)
        (changed / path).write_bytes(make_entry(draw, size + 200, 1, CREATED + count))
        _set_mtime(changed / path, (CREATED + count) * 10**9)
    added = tuple(_put(changed, draw, count + number) for number in range(share))
    return Change(tuple(rewritten), added)


def paths(folder: Path) -> list[str]:
    """All entries of a directory (ccache's two-level layout) as relative paths, sorted; nothing else that is there."""
    return sorted(os.path.relpath(path, folder) for path in _files(folder) if len(os.path.basename(path)) >= 31)


def size_of(folder: Path, some: Iterable[str]) -> int:
    """Bytes of these files."""
    return sum(os.stat(folder / path).st_size for path in some)


def link_copy(source: Path, target: Path, some: Iterable[str] | None = None) -> None:
    """Copy entries by hard links; what is there is replaced."""
    made: set[str] = set()
    for path in paths(source) if some is None else some:
        parent = os.path.dirname(path)
        if parent not in made:
            os.makedirs(target / parent, exist_ok=True)
            made.add(parent)
        (target / path).unlink(missing_ok=True)
        os.link(source / path, target / path)


def unlink_copies(folder: Path, some: Iterable[str]) -> None:
    """Give these files inodes of their own: some methods write into the file that is there."""
    for path in some:
        temporary = folder / f"{path}.own"
        shutil.copy2(folder / path, temporary)
        temporary.replace(folder / path)


def put_away(folder: Path) -> None:
    """Give a directory's room back and get it out of the way, but keep its inodes (see `benchmarks.cache`)."""
    for path in _files(folder):
        if os.stat(path).st_nlink == 1:  # the data's own have a name elsewhere
            os.truncate(path, 0)
    folder.rename(f"{folder}-{secrets.token_hex(4)}")


def mtimes(folder: Path, some: Iterable[str]) -> Times:
    """Each file's mtime, in nanoseconds."""
    return {path: os.stat(folder / path).st_mtime_ns for path in some}


def set_mtimes(folder: Path, times: Times) -> None:
    """Put mtimes back, or bump them as a warm build does."""
    for path, at in times.items():
        _set_mtime(folder / path, at)


def working_set(folder: Path, share: float, *, scattered: bool) -> list[str]:
    """Choose entries that one compile step uses: written one after another as by a build, or anywhere."""
    times = mtimes(folder, paths(folder))
    ordered = sorted(times, key=times.__getitem__)
    wanted = round(len(ordered) * share)
    if scattered:
        return sorted(random.Random(3).sample(ordered, wanted))
    first = (len(ordered) - wanted) // 2
    return sorted(ordered[first : first + wanted])


def check(expected: Path, some: Iterable[str], restored: Path, *, contents: int = 200) -> None:
    """Raise AssertionError unless exactly these entries were restored, with their sizes and (a sample) contents."""
    wanted = sorted(some)
    found = paths(restored)
    if found != wanted:
        missing, extra = set(wanted) - set(found), set(found) - set(wanted)
        raise AssertionError(f"{len(missing)} entries missing, {len(extra)} too many, e.g. {min(missing | extra)}")
    for path in wanted:
        if os.stat(expected / path).st_size != os.stat(restored / path).st_size:
            raise AssertionError(f"{path}: another size")
    for path in random.sample(wanted, min(contents, len(wanted))):
        if (expected / path).read_bytes() != (restored / path).read_bytes():
            raise AssertionError(f"{path}: another content")


def _put(folder: Path, draw: random.Random, number: int) -> str:
    name = f"{draw.getrandbits(160):040x}"
    path = f"{name[0]}/{name[1]}/{name[2:]}"
    size = min(LARGEST, int(draw.lognormvariate(0, SIGMA) * MEDIAN))
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(make_entry(draw, size, number % 2, CREATED + number))
    _set_mtime(folder / path, (CREATED + number) * 10**9)
    return path


def _set_mtime(path: Path, at: int) -> None:
    os.utime(path, ns=(at, at))


def _kind(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(4)[3]


def _files(folder: Path) -> Iterator[str]:
    for digit in "0123456789abcdef":
        for above, _, names in os.walk(folder / digit):
            yield from (os.path.join(above, name) for name in names)
