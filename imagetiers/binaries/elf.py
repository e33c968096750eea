"""ELF files as far as a loader looks at them: what they need, where they look for it, what they call themselves."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

__all__ = ["Elf", "ElfSection", "FormatError", "read_loading", "sections", "unpack"]

Bytes = bytes | mmap.mmap

MAGIC = b"\x7fELF"
_HEADERS = {1: struct.Struct("<16sHHIIIIIHHHHHH"), 2: struct.Struct("<16sHHIQQQIHHHHHH")}
_PROGRAM = {1: struct.Struct("<IIIIIIII"), 2: struct.Struct("<IIQQQQQQ")}
_DYNAMIC = {1: struct.Struct("<iI"), 2: struct.Struct("<qQ")}
_SECTION = struct.Struct("<IIQQQQIIQQ")
_LOAD, _DYNAMIC_SEGMENT, _INTERPRETER = 1, 2, 3
_NEEDED, _STRINGS, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
NO_BITS = 8
_MOST_SECTIONS, _MOST_SEGMENTS, _MOST_ENTRIES = 100_000, 1_000, 10_000
_LONGEST = 4096  # bytes of a name
_EXECUTABLE, _SHARED = 2, 3


class FormatError(Exception):
    """The file is not laid out as it should be."""


@dataclass(frozen=True, slots=True)
class Elf:
    """What a loader reads of a program or a shared library.

    `bits` is 32 or 64, `machine` the number of its architecture. Names are as they stand in
    the file: `$ORIGIN` is not replaced.
    """

    bits: int
    machine: int
    needed: tuple[str, ...] = ()
    soname: str = ""
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    interpreter: str = ""

    @property
    def kind(self) -> tuple[int, int]:
        """What must be alike of two files that are loaded into one process."""
        return self.bits, self.machine


@dataclass(frozen=True, slots=True)
class ElfSection:
    """A section: its name, type, place in the file, and the section that it refers to."""

    name: bytes
    kind: int
    start: int
    size: int
    link: int


def unpack(layout: struct.Struct, data: Bytes, at: int) -> tuple[int, ...]:
    """Read a record. Raises FormatError where the file ends before it does."""
    if at < 0 or at + layout.size > len(data):
        raise FormatError(f"it ends before byte {at + layout.size}")
    return layout.unpack_from(data, at)


def read_loading(data: Bytes) -> Elf | None:
    """Read an ELF file; None for what no loader of ours loads: objects, core files, big-endian machines. Raises FormatError."""
    if len(data) < 6 or data[:4] != MAGIC:  # noqa: PLR2004
        raise FormatError("it is no ELF file")
    if data[4] not in _HEADERS or data[5] != 1:
        return None
    size = data[4]
    header = unpack(_HEADERS[size], data, 0)
    kind, machine, table, length, count = header[1], header[2], header[5], header[9], header[10]
    if kind not in (_EXECUTABLE, _SHARED):
        return None
    if count and (length != _PROGRAM[size].size or count > _MOST_SEGMENTS):
        raise FormatError("its program header is damaged")
    loads: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    interpreter = ""
    for index in range(count):
        row = unpack(_PROGRAM[size], data, table + index * length)
        segment = row[0]
        offset, address, stored = (row[1], row[2], row[4]) if size == 1 else (row[2], row[3], row[5])
        if segment == _LOAD:
            loads.append((address, offset, stored))
        elif segment == _DYNAMIC_SEGMENT:
            dynamic = offset, stored
        elif segment == _INTERPRETER:
            interpreter = _text(data, offset)
    bits = 32 * size
    if dynamic is None:
        return Elf(bits, machine, interpreter=interpreter)
    return _dynamic(data, Elf(bits, machine, interpreter=interpreter), dynamic, loads)


def _dynamic(data: Bytes, elf: Elf, segment: tuple[int, int], loads: list[tuple[int, int, int]]) -> Elf:
    layout = _DYNAMIC[elf.bits // 32]
    at, stored = segment
    tags: list[tuple[int, int]] = []
    for index in range(min(stored // layout.size, _MOST_ENTRIES)):
        tag, value = unpack(layout, data, at + index * layout.size)
        if tag == 0:
            break
        tags.append((tag, value))
    strings = next((value for tag, value in tags if tag == _STRINGS), None)
    if strings is None:
        return elf
    # A debug file keeps its headers and none of what they speak of.
    base = next((offset + strings - address for address, offset, size in loads if 0 <= strings - address < size), None)
    if base is None:
        raise FormatError("its table of strings is in none of its segments")

    def texts(wanted: int) -> tuple[str, ...]:
        return tuple(_text(data, base + value) for tag, value in tags if tag == wanted)

    return Elf(
        elf.bits,
        elf.machine,
        needed=texts(_NEEDED),
        soname="".join(texts(_SONAME)[:1]),
        rpath=_folders(texts(_RPATH)),
        runpath=_folders(texts(_RUNPATH)),
        interpreter=elf.interpreter,
    )


def _folders(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(folder for text in texts for folder in text.split(":") if folder)


def _text(data: Bytes, at: int) -> str:
    end = data.find(b"\0", at, at + _LONGEST)
    if not 0 <= at < len(data) or end < 0:
        raise FormatError(f"no text at byte {at}")
    return bytes(data[at:end]).decode(errors="replace")


def sections(data: Bytes) -> list[ElfSection]:
    """Read the section table of a 64-bit little-endian ELF file. Raises FormatError."""
    header = unpack(_HEADERS[2], data, 0)
    if bytes(data[:6]) != MAGIC + b"\x02\x01":
        raise FormatError("it is no 64-bit little-endian ELF file")
    table, size, count, names_at = header[6], header[11], header[12], header[13]
    if not table or not count:
        return []
    if size != _SECTION.size or count > _MOST_SECTIONS or names_at >= count:
        raise FormatError("its section table is damaged")
    rows = [unpack(_SECTION, data, table + index * size) for index in range(count)]
    names = rows[names_at]
    found = []
    for row in rows:
        start, length = row[4], row[5]
        if row[1] != NO_BITS and start + length > len(data):
            raise FormatError("a section lies beyond its end")
        name_at = names[4] + row[0]
        end = data.find(b"\0", name_at, name_at + 256)
        found.append(ElfSection(bytes(data[name_at : max(end, name_at)]), row[1], start, length, row[6]))
    return found
