"""Bytes that are put aside: in a file without a name, which is gone when nobody refers to it any more, or with the process."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["Aside"]

_PIECE = 1 << 20


class Aside:
    """What was put aside, by where it begins and how many bytes it has. Several threads may read it. `folder` has its disk."""

    def __init__(self, folder: Path | None) -> None:
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        weakref.finalize(self, file.close)
        self._file = file.fileno()
        self._end = 0

    def put(self, source: IO[bytes]) -> tuple[int, int]:
        """Put aside what is left of a file; return where it is. Raises OSError when the disk is full."""
        begin = self._end
        while data := source.read(_PIECE):
            while data:
                written = os.pwrite(self._file, data, self._end)
                data, self._end = data[written:], self._end + written
        return begin, self._end - begin

    def pieces(self, at: int, size: int) -> Iterator[bytes]:
        """Yield it again."""
        end = at + size
        while piece := os.pread(self._file, min(end - at, _PIECE), at):
            at += len(piece)
            yield piece
