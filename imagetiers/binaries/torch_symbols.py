"""What a library takes from PyTorch, and what it gives: the C++ names of PyTorch's namespaces in its table of dynamic symbols.

An extension is compiled against one PyTorch. In another one a function may have other parameters, and so another name (by the
Itanium C++ ABI, which GCC and Clang follow on Linux): the loader then refuses the extension when it is imported.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from imagetiers.binaries.elf import Bytes, FormatError, sections

__all__ = ["TorchSymbols", "read_torch_symbols"]

_DYNAMIC_SYMBOLS = 11  # SHT_DYNSYM
_SYMBOL = struct.Struct("<IBBHQQ")
_WEAK = 2
_MOST = 4_000_000  # symbols of one file
_LONGEST = 16_384  # bytes of a name; templates make long ones
# A nested name, or a table or type information of one: of at::, c10::, caffe2:: or torch::.
_NAMESPACES = re.compile(rb"_Z(?:T[VIST])?N[KVRO]*(?:2at|3c10|6caffe2|5torch)")


@dataclass(frozen=True, slots=True)
class TorchSymbols:
    """Mangled names: those that a library defines, and those that it has to find in others when it is loaded."""

    defined: frozenset[bytes]
    wanted: frozenset[bytes]

    def __bool__(self) -> bool:
        return bool(self.defined or self.wanted)


def read_torch_symbols(data: Bytes) -> TorchSymbols:
    """Read a 64-bit little-endian ELF file. Raises FormatError."""
    table = sections(data)
    defined: set[bytes] = set()
    wanted: set[bytes] = set()
    for section in table:
        if section.kind != _DYNAMIC_SYMBOLS or section.link >= len(table):
            continue
        strings = table[section.link]
        if _NAMESPACES.search(data, strings.start, strings.start + strings.size) is None:
            continue
        if section.size > _MOST * _SYMBOL.size:
            raise FormatError("it has too many symbols")
        whole = section.size - section.size % _SYMBOL.size
        names = bytes(data[strings.start : strings.start + strings.size])
        for at, info, _, place, _, _ in _SYMBOL.iter_unpack(data[section.start : section.start + whole]):
            if _NAMESPACES.match(names, at) is None:
                continue
            end = names.find(b"\0", at, at + _LONGEST)
            name = names[at : end if end >= 0 else at + _LONGEST]
            if place:
                defined.add(name)
            elif info >> 4 != _WEAK:
                wanted.add(name)
    return TorchSymbols(frozenset(defined), frozenset(wanted))
