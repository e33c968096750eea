"""Files that hold what saves time: written by this user and whole, or as if they were not there."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import stat
import struct
from collections.abc import Generator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from imagetiers.errors import StoreError
from imagetiers.stores.files import atomic_write

__all__ = ["BROKEN", "read_values", "seal", "unseal"]

BROKEN = (pickle.UnpicklingError, ValueError, TypeError, LookupError, EOFError, AttributeError, ImportError)
"""What reading a pickle raises that is none, or that holds what it must not."""

_LENGTH = struct.Struct(">Q")
_DIGEST = 32
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def seal(path: Path, magic: bytes, sections: Iterable[bytes]) -> None:
    """Write a file of these sections, each with its checksum, for this user alone. Where that cannot be, nothing is written."""
    with suppress(StoreError), atomic_write(path, mode=0o600) as write:
        write(magic)
        for section in sections:
            write(_LENGTH.pack(len(section)) + _hash(section))
            write(section)


def unseal(path: Path, magic: bytes, count: int) -> Generator[bytes, None, None]:
    """Yield the sections of a file that this user has written, and nobody else could have, as long as they are whole."""
    with suppress(OSError, struct.error):
        descriptor = os.open(path, _FLAGS)
        with open(descriptor, "rb") as file:  # noqa: PTH123
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & _OTHERS:
                return
            if file.read(len(magic)) != magic:
                return
            for _ in range(count):
                (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
                digest = file.read(_DIGEST)
                section = file.read(min(length, status.st_size))
                if len(section) != length or _hash(section) != digest:
                    return
                yield section


def read_values(data: bytes) -> Any:
    """Return what was pickled of numbers, strings, bytes and tuples. Raises one of BROKEN for everything else."""
    return _Values(io.BytesIO(data)).load()


class _Values(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name}")


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
