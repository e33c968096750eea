"""Which device code ELF files hold: read from their bits, without CUDA and without a GPU.

nvcc puts a program's device code into the section .nv_fatbin as a row of fat binaries. Each holds machine code (cubins) and
PTX, an entry for each target, plain or compressed; __nv_relfatbin has what is not linked yet, and is no code that runs. NVIDIA
documents none of this: the layout was read from what nvcc 12.4 and 13.0 make, and is held by tests against cuobjdump.

This file is also a program by itself, for any image with Python 3.10 or newer: it imports nothing but the standard library.

    python3 device_code.py MARK [ROOT]     a line "MARK device {json}" for each ELF file that has to do with CUDA
"""

from __future__ import annotations

import json
import mmap
import os
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Amount", "DeviceCode", "FormatError", "libraries", "read_elf"]

Bytes = bytes | mmap.mmap

_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_FATBIN = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIHHIIIQQQ")
_FATBIN_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_ARCHITECTURE_SPECIFIC, _FAMILY_SPECIFIC, _LZ4, _ZSTD = 0x100000, 0x200000, 0x2000, 0x8000
_REGISTERS = b"__cudaRegisterFatBinary"
_NO_BITS = 8
_SECTIONS, _SYMBOLS, _FATBINS, _ENTRIES = 100_000, 4_000_000, 1_000_000, 1_000
_HEAD = 4096  # bytes
_EMPTY = 2048  # bytes: the cubin of a link without device code has up to 1.7 kB, one with the smallest kernel 3.2 kB


class FormatError(Exception):
    """The file is no ELF file that can be read, or its device code is not laid out as nvcc does it."""


@dataclass
class Amount:
    """How many entries there are for a target, and how many bytes they have in the file."""

    entries: int = 0
    bytes: int = 0


@dataclass
class DeviceCode:
    """What an ELF file has of CUDA, by target as TORCH_CUDA_ARCH_LIST spells it: 9.0, 9.0a, 10.0f.

    `registers`: it asks the CUDA runtime to register device code, as all does that nvcc has compiled. `empty` counts
    entries without a kernel, which links leave.
    """

    sass: dict[str, Amount] = field(default_factory=dict)
    ptx: dict[str, Amount] = field(default_factory=dict)
    registers: bool = False
    empty: int = 0

    def __bool__(self) -> bool:
        return bool(self.sass or self.ptx or self.registers)


@dataclass
class _Section:
    name: bytes
    kind: int
    start: int
    size: int
    link: int


def read_elf(data: Bytes) -> DeviceCode:
    """Read a 64-bit little-endian ELF file. Raises FormatError for anything that is not laid out as it should be."""
    sections = _sections(data)
    code = DeviceCode()
    for section in sections:
        if section.name == b".nv_fatbin" and section.kind != _NO_BITS:
            _read_fatbins(data, section.start, section.start + section.size, code)
        elif section.name == b".nvFatBinSegment":
            code.registers = True
        elif section.name == b".dynsym" and section.link < len(sections):
            code.registers = code.registers or _imports(data, section, sections[section.link], _REGISTERS)
    return code


def _unpack(layout: struct.Struct, data: Bytes, at: int) -> tuple[Any, ...]:
    if at < 0 or at + layout.size > len(data):
        raise FormatError(f"it ends before byte {at + layout.size}")
    return layout.unpack_from(data, at)


def _sections(data: Bytes) -> list[_Section]:
    header = _unpack(_ELF_HEADER, data, 0)
    if header[0][:6] != b"\x7fELF\x02\x01":
        raise FormatError("it is no 64-bit little-endian ELF file")
    table, size, count, names_at = header[6], header[11], header[12], header[13]
    if not table or not count:
        return []
    if size != _SECTION.size or count > _SECTIONS or names_at >= count:
        raise FormatError("its section table is damaged")
    rows = [_unpack(_SECTION, data, table + index * size) for index in range(count)]
    names = rows[names_at]
    found = []
    for row in rows:
        start, length = row[4], row[5]
        if row[1] != _NO_BITS and start + length > len(data):
            raise FormatError("a section lies beyond its end")
        name_at = names[4] + row[0]
        end = data.find(b"\0", name_at, name_at + 256)
        found.append(_Section(bytes(data[name_at : max(end, name_at)]), row[1], start, length, row[6]))
    return found


def _imports(data: Bytes, symbols: _Section, strings: _Section, name: bytes) -> bool:
    """Say whether the file takes a function from another one."""
    at = data.find(b"\0" + name + b"\0", strings.start, strings.start + strings.size)
    if at < 0:
        return False
    offset = at + 1 - strings.start
    rows = data[symbols.start : symbols.start + min(symbols.size // _SYMBOL.size, _SYMBOLS) * _SYMBOL.size]
    return any(row[0] == offset and row[3] == 0 for row in _SYMBOL.iter_unpack(rows))


def _read_fatbins(data: Bytes, at: int, end: int, code: DeviceCode) -> None:
    """Read a row of fat binaries. Only their headers are touched: a library's gigabyte of code is not read."""
    for _ in range(_FATBINS):
        while at < end and data[at : at + 4] == b"\0\0\0\0":  # each begins at a multiple of 8
            at += 4
        if at >= end:
            return
        magic, version, header, size = _unpack(_FATBIN, data, at)
        if magic != _FATBIN_MAGIC or version != 1 or header < _FATBIN.size or at + header + size > end:
            raise FormatError(f"no fat binary at byte {at}")
        _read_entries(data, at + header, at + header + size, code)
        at += header + size
    raise FormatError(f"it has more than {_FATBINS} fat binaries")


def _read_entries(data: Bytes, at: int, end: int, code: DeviceCode) -> None:
    for _ in range(_ENTRIES):
        if at >= end:
            return
        kind, _, header, size, stored, _, _, _, number, _, _, flags, _, whole = _unpack(_ENTRY, data, at)
        if header < _ENTRY.size or not size or at + header + size > end:
            raise FormatError(f"no entry of a fat binary at byte {at}")
        if kind in (_PTX, _CUBIN):
            start, length = at + header, stored or size
            if kind == _CUBIN and not _holds_code(data, start, min(length, size), flags, whole):
                code.empty += 1
            else:
                amount = (code.ptx if kind == _PTX else code.sass).setdefault(_target(number, flags), Amount())
                amount.entries += 1
                amount.bytes += size
        at += header + size
    raise FormatError(f"a fat binary has more than {_ENTRIES} entries")


def _target(number: int, flags: int) -> str:
    suffix = "a" if flags & _ARCHITECTURE_SPECIFIC else "f" if flags & _FAMILY_SPECIFIC else ""
    return f"{number // 10}.{number % 10}{suffix}"


def _holds_code(data: Bytes, start: int, length: int, flags: int, whole: int) -> bool:
    """Say whether a cubin has a kernel or a function: a section .text.NAME.

    The names stand at its beginning. Zstandard is in no Python before 3.14, so there the size tells: see `_EMPTY`.
    """
    if flags & _ZSTD:
        return whole > _EMPTY
    head = bytes(data[start : start + min(length, _HEAD)])
    return b".text." in (_lz4(head, _HEAD) if flags & _LZ4 else head) or (whole or length) > _HEAD


def _lz4(block: bytes, most: int) -> bytes:
    """Decompress the beginning of an LZ4 block, at least `most` bytes if there are as many; what is damaged ends it."""
    out, at = bytearray(), 0
    try:
        while len(out) < most and at < len(block):
            token, at = block[at], at + 1
            literals, at = _lz4_length(block, at, token >> 4)
            out += block[at : at + literals]
            at += literals
            back = block[at] | block[at + 1] << 8
            length, at = _lz4_length(block, at + 2, token & 15)
            begin = len(out) - back
            if not back or begin < 0:
                break
            for index in range(min(length + 4, most)):  # may overlap what it makes
                out.append(out[begin + index])
    except IndexError:
        pass
    return bytes(out)


def _lz4_length(block: bytes, at: int, length: int) -> tuple[int, int]:
    if length == 15:  # noqa: PLR2004  a half byte that is full goes on in the next bytes
        while True:
            more, at = block[at], at + 1
            length += more
            if more != 255:  # noqa: PLR2004
                break
    return length, at


def libraries(root: str) -> Iterator[tuple[str, DeviceCode | FormatError | OSError]]:
    """Yield the ELF files below a folder that have to do with CUDA, in the order of their paths, or why one cannot be read.

    Links are not followed, other file systems not entered.
    """
    device = os.stat(root).st_dev
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _enters(os.path.join(folder, name), device))
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                found = _read_file(path)
            except (FormatError, OSError) as error:
                yield path, error
            else:
                if found:
                    yield path, found


def _enters(path: str, device: int) -> bool:
    try:
        about = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_dev == device


def _read_file(path: str) -> DeviceCode | None:
    """Read a file that is an ELF file for 64 bits; None for all others. A file that cannot be opened is not for us."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        file = open(path, "rb")
    except OSError:
        return None
    with file:
        if file.read(6) != b"\x7fELF\x02\x01":
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read_elf(data)


def _amounts(by_target: dict[str, Amount]) -> dict[str, list[int]]:
    return {target: [amount.entries, amount.bytes] for target, amount in by_target.items()}


def main(mark: str, root: str = "/") -> None:
    """Print what the files below a folder hold."""
    for path, found in libraries(root):
        line: dict[str, object] = {"path": path}
        if isinstance(found, DeviceCode):
            line.update(
                sass=_amounts(found.sass), ptx=_amounts(found.ptx), registers=found.registers, empty=found.empty
            )
        else:
            line["error"] = str(found)
        print(mark, "device", json.dumps(line), flush=True)  # noqa: T201  it is a program


if __name__ == "__main__":
    main(*sys.argv[1:])
