"""Which device code ELF files hold: read from their bits, without CUDA and without a GPU.

nvcc puts a program's device code into the section .nv_fatbin as a row of fat binaries. Each holds machine code (cubins) and
PTX, an entry for each target, plain or compressed; __nv_relfatbin has what is not linked yet, and is no code that runs. NVIDIA
documents none of this: the layout was read from what nvcc 12.4 and 13.0 make, and is held by tests against cuobjdump.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from imagetiers.binaries.elf import NO_BITS, Bytes, ElfSection, FormatError, sections, unpack

__all__ = ["Amount", "DeviceCode", "FormatError", "read_elf"]

_SYMBOL = struct.Struct("<IBBHQQ")
_FATBIN = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIHHIIIQQQ")
_FATBIN_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_ARCHITECTURE_SPECIFIC, _FAMILY_SPECIFIC, _LZ4, _ZSTD = 0x100000, 0x200000, 0x2000, 0x8000
_REGISTERS = b"__cudaRegisterFatBinary"
_SYMBOLS, _FATBINS, _ENTRIES = 4_000_000, 1_000_000, 1_000
_HEAD = 4096  # bytes
_EMPTY = 2048  # bytes: the cubin of a link without device code has up to 1.7 kB, one with the smallest kernel 3.2 kB


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


def read_elf(data: Bytes) -> DeviceCode:
    """Read a 64-bit little-endian ELF file. Raises FormatError for anything that is not laid out as it should be."""
    found = sections(data)
    code = DeviceCode()
    for section in found:
        if section.name == b".nv_fatbin" and section.kind != NO_BITS:
            _read_fatbins(data, section.start, section.start + section.size, code)
        elif section.name == b".nvFatBinSegment":
            code.registers = True
        elif section.name == b".dynsym" and section.link < len(found):
            code.registers = code.registers or _imports(data, section, found[section.link], _REGISTERS)
    return code


def _imports(data: Bytes, symbols: ElfSection, strings: ElfSection, name: bytes) -> bool:
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
        magic, version, header, size = unpack(_FATBIN, data, at)
        if magic != _FATBIN_MAGIC or version != 1 or header < _FATBIN.size or at + header + size > end:
            raise FormatError(f"no fat binary at byte {at}")
        _read_entries(data, at + header, at + header + size, code)
        at += header + size
    raise FormatError(f"it has more than {_FATBINS} fat binaries")


def _read_entries(data: Bytes, at: int, end: int, code: DeviceCode) -> None:
    for _ in range(_ENTRIES):
        if at >= end:
            return
        kind, _, header, size, stored, _, _, _, number, _, _, flags, _, whole = unpack(_ENTRY, data, at)
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
