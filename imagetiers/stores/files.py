"""The local files that objects come from and go to, and what the operating system's errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from imagetiers.errors import ForbiddenError, Problem, StoreError

__all__ = ["atomic_write", "local_errors", "read_chunks", "store_error"]

_PIECE = 1 << 20
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.part")
_LEFT_SECONDS = 86_400.0


def store_error(error: OSError, where: str) -> StoreError:
    """Say what an OSError means, as ForbiddenError or plain StoreError."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = f"the disk is full ({error.strerror})"
        return StoreError(Problem(where, what, "make room there and run again: nothing was changed"))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        what = f"not permitted ({error.strerror})"
        return ForbiddenError(Problem(where, what, "check the owner and mode of this directory, and the mount"))
    return StoreError(Problem(where, error.strerror or str(error)))


@contextlib.contextmanager
def local_errors(where: str | Path) -> Iterator[None]:
    """Turn an OSError of the body into a StoreError that names `where`."""
    try:
        yield
    except OSError as error:
        raise store_error(error, str(where)) from error


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the file's content, 1 MiB at a time. Raises StoreError."""
    with local_errors(path):
        file = path.open("rb")
    with file:
        while True:
            with local_errors(path):
                piece = file.read(_PIECE)
            if not piece:
                return
            yield piece


@contextlib.contextmanager
def atomic_write(path: Path, mode: int = 0o666) -> Iterator[Callable[[bytes], None]]:
    """Yield `write`; what it got becomes `path` in one rename when all went well, and vanishes when not.

    The umask takes from the file's `mode`.

    Makes missing folders. Only what these files do becomes a StoreError, not what the body does: the network's errors
    are OSErrors, too.
    """
    temporary = path.parent / f".{secrets.token_hex(8)}.part"  # short: `path`'s own name may be as long as can be
    with local_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        file = open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115

    def write(piece: bytes) -> None:
        with local_errors(path):
            file.write(piece)

    try:
        yield write
        with local_errors(path):
            file.close()
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            file.close()
        temporary.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder a day ago or more."""
    oldest = time.time() - _LEFT_SECONDS
    for left in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if _TEMPORARY.fullmatch(left.name) and left.lstat().st_mtime < oldest:
                left.unlink()
