"""Write the entry files whose bytes were fetched, all of which are checked before the first is written; count them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from imagetiers.ccache.format.pack import Codec, SectionRef, Slot, decode_section, restore_entry
from imagetiers.ccache.local import new_token, put, recount_folder

__all__ = ["EntryPart", "EntryRun", "Recount", "Unpack", "Unpacked", "restored"]


class EntryPart(NamedTuple):
    """An entry to restore: where it lies, and what the index says that it is (see `pack.Slot`).

    It is `length` bytes from `start` on, of the decoded section where that is compressed, else of all that was fetched.
    With `replace` it takes the place of a file that is there.
    """

    name: str
    start: int
    length: int
    size: int
    content: bytes
    mtime: int
    replace: bool


class EntryRun(NamedTuple):
    """Entries of one section, whose bytes begin at `start` of what was fetched, where it is compressed."""

    section: SectionRef
    start: int
    parts: tuple[EntryPart, ...]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """How many entries were written, their bytes, and why not all of them were."""

    entries: int
    size: int
    failed: OSError | None


@dataclass(frozen=True, slots=True)
class Unpack:
    """An order to restore entries of one pack, of which some bytes lie in memory, into a cache directory."""

    where: str
    directory: str
    runs: tuple[EntryRun, ...]

    def do(self, memory: memoryview) -> Unpacked:
        """Check all of it, then write each entry. Raises CorruptError before anything is written."""
        files = list(restored(self.runs, memory, self.where))
        token = new_token()
        entries = size = 0
        try:
            for part, data in files:
                if put(self.directory, part.name, data, part.mtime, token, replace=part.replace):
                    entries += 1
                    size += part.size
        except OSError as error:
            return Unpacked(entries, size, error)
        return Unpacked(entries, size, None)


@dataclass(frozen=True, slots=True)
class Recount:
    """An order to set ccache's counters of one first-level folder to what is there (see `local.recount`)."""

    folder: Path

    def do(self, memory: memoryview) -> None:
        """Do it; the memory is not needed. Raises OSError."""
        del memory
        recount_folder(self.folder)


def restored(
    runs: tuple[EntryRun, ...], memory: memoryview, where: str
) -> Iterator[tuple[EntryPart, bytes | memoryview]]:
    """Yield each entry's file, checked. Raises CorruptError at the first that is not what the index says."""
    for section, start, parts in runs:
        decoded: bytes | memoryview = memory
        if section.codec is not Codec.VERBATIM:
            decoded = memoryview(decode_section(section, memory[start : start + section.stored], where))
        for part in parts:
            slot = Slot(part.name, part.start, part.length, part.size, part.content, 0, part.mtime)
            found = decoded[part.start : part.start + part.length]
            yield part, restore_entry(section.codec, slot, found, section.kind)
