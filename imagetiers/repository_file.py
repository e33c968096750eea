"""One file of the repository, whatever lies at its path: read whole, or told what is wrong with it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from imagetiers.errors import PipelineError, Problem

__all__ = ["decode", "kind_of_file", "read_file"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


def read_file(path: Path, shown: str) -> bytes | None:
    """Return a file's bytes, None when there is none. Links are followed; nothing else than a file is opened.

    Raises PipelineError with one problem, which calls the file `shown`.
    """
    try:
        # A pipe that nobody writes to would hold an open that waits.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        if path.is_symlink():
            what = f"is a link to {path.readlink()}, which does not exist"
            raise PipelineError(Problem(shown, what, "let it point to a file, or remove it")) from None
        return None
    except OSError as error:
        hint = "run as a user who may read it" if isinstance(error, PermissionError) else ""
        raise PipelineError(Problem(shown, f"cannot be read: {error.strerror}", hint)) from None
    kind = kind_of_file(os.fstat(descriptor).st_mode)
    if kind is not None:
        os.close(descriptor)
        raise PipelineError(Problem(shown, f"is {kind}, but must be a file", "put a file in its place"))
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def kind_of_file(mode: int) -> str | None:
    """Return what `stat` says something is that is no regular file, as people call it; None for a file."""
    if stat.S_ISREG(mode):
        return None
    return next((name for test, name in _KINDS if test(mode)), "neither a file nor a folder")


def decode(data: bytes, shown: str) -> str:
    """Return a file's text, without a byte order mark. Raises PipelineError with the line that is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise PipelineError(Problem(f"{shown}:{line}", what, "save the file as UTF-8")) from None
