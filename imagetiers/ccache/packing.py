"""Read entry files into a pack: each is checked where it will lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from imagetiers.ccache.format.entry import TRAILER, Kind, check_entry
from imagetiers.ccache.format.pack import PACK_MAX, Codec, SectionRef, Slot, make_table, table_size
from imagetiers.ccache.local import LocalEntry, Look, look_of
from imagetiers.errors import CorruptError

__all__ = ["ROOM", "LocalCandidate", "Pack", "Packed"]

_FIRST = table_size(len(Kind))

ROOM = PACK_MAX - _FIRST
"""Most bytes of entry files in one pack."""


class LocalCandidate(NamedTuple):
    """An entry file that is to be pushed, and what kind of entry it should be."""

    name: str
    file: LocalEntry
    kind: Kind


class _Stored(NamedTuple):
    """What a `pack.Slot` is made of: that takes ten times as long to come out of another process."""

    name: str
    offset: int
    size: int
    content: bytes
    created: int
    mtime: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack in memory: `size` bytes from `start` on, its sections and their entries, and what was left out, and why.

    `manifests` are the files of those that were read for it. Its size is 0 where nothing was left to be packed.
    """

    start: int
    size: int
    sha256: str
    sections: tuple[tuple[SectionRef, tuple[_Stored, ...]], ...]
    skipped: tuple[str, ...] = ()
    manifests: tuple[Look, ...] = ()

    def slots(self) -> Iterator[tuple[Slot, SectionRef]]:
        """Return where each entry lies."""
        for section, entries in self.sections:
            for name, offset, size, content, created, mtime in entries:
                yield Slot(name, offset, size, size, content, created, mtime), section


@dataclass(frozen=True, slots=True)
class Pack:
    """An order to make a pack of entry files, which come kind by kind, and have at most ROOM bytes in all.

    A file that is no intact entry is skipped. One that has vanished or was rewritten as another kind is left out without a
    word, and so is one that has grown so much that it has no room: the next push takes it.
    """

    files: tuple[LocalCandidate, ...]

    def do(self, memory: memoryview) -> Packed:
        """Read the files into memory, and make a pack around them."""
        skipped: list[str] = []
        manifests: list[Look] = []
        found: list[tuple[Kind, int, list[_Stored]]] = []
        at = _FIRST
        for kind, candidates in groupby(self.files, lambda candidate: candidate.kind):
            begin, entries = at, list[_Stored]()
            for name, file, _ in candidates:
                try:
                    read = _read(file.path, memory[at:PACK_MAX])
                    header = check_entry(memory[at : at + read.size], name) if read is not None else None
                except FileNotFoundError:
                    continue
                except (OSError, CorruptError) as error:
                    skipped.append(f"{name}: {error}")
                    continue
                if read is None or header is None or header.kind is not kind:
                    continue
                if not header.self_contained:
                    skipped.append(f"{name}: its files lie beside it (file_clone or hard_link), which is not supported")
                    continue
                content = bytes(memory[at + read.size - TRAILER : at + read.size])
                entries.append(_Stored(name, at - begin, read.size, content, header.created, file.mtime))
                if kind is Kind.MANIFEST:
                    manifests.append(look_of(read.status, content))
                at += read.size
            if entries:
                found.append((kind, begin, entries))
        return replace(_closed(memory, at, found), skipped=tuple(skipped), manifests=tuple(manifests))


def _closed(memory: memoryview, end: int, found: Sequence[tuple[Kind, int, list[_Stored]]]) -> Packed:
    """Put the table before the entries, and name the whole."""
    if not found:
        return Packed(0, 0, "", ())
    start = _FIRST - table_size(len(found))
    sections = []
    for kind, begin, entries in found:
        size = entries[-1].offset + entries[-1].size
        sections.append((SectionRef(Codec.VERBATIM, kind, len(entries), begin - start, size, size), tuple(entries)))
    memory[start:_FIRST] = make_table([section for section, _ in sections])
    return Packed(start, end - start, hashlib.sha256(memory[start:end]).hexdigest(), tuple(sections))


class _Read(NamedTuple):
    """How many bytes were read of a file, and its status before that."""

    size: int
    status: os.stat_result


def _read(path: str, room: memoryview) -> _Read | None:
    """Read a whole file into memory; None where it has no room."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        status = os.fstat(fd)
        size = status.st_size
        if size > len(room):
            return None
        done = 0
        while done < size:
            more = os.readv(fd, [room[done:size]])
            if not more:
                break
            done += more
        return _Read(done, status)
    finally:
        os.close(fd)
