"""One file of the repository, whatever lies at its path: read whole, or an error that says what is wrong with it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from imagetiers.errors import PipelineError, Problem

__all__ = ["MAX_FILE_BYTES", "decode", "kind_of_file", "os_fault", "read_file", "read_input"]

MAX_FILE_BYTES = 64 << 20
_TRIES = 3
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe that nobody writes to would hold an open that waits
_HINTS = {
    errno.EACCES: "run as a user who may read it",
    errno.EPERM: "run as a user who may read it",
    errno.ELOOP: "its links lead in a circle: let one of them point to the file",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.ENAMETOOLONG: "choose a shorter name",
}

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
        return _read(path, shown, _FLAGS)[0]
    except FileNotFoundError:
        if path.is_symlink():
            what = f"is a link to {path.readlink()}, which does not exist"
            raise PipelineError(Problem(shown, what, "let it point to a file, or remove it")) from None
        return None


def read_input(path: Path, shown: str) -> tuple[bytes, os.stat_result]:
    """Return the bytes and the status of a file that was seen a moment ago, and that is no link.

    Raises PipelineError with one problem, which calls the file `shown`.
    """
    try:
        return _read(path, shown, _FLAGS | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise PipelineError(Problem(shown, "vanished while it was read", _AGAIN)) from None


_AGAIN = "run doit again when nothing writes there any more"


def _read(path: Path, shown: str, flags: int) -> tuple[bytes, os.stat_result]:
    """Read a file of a bounded size, all of it of one moment. Raises FileNotFoundError and PipelineError."""
    try:
        for _ in range(_TRIES):
            descriptor = os.open(path, flags)
            before = os.fstat(descriptor)
            kind = kind_of_file(before.st_mode)
            if kind is not None:
                os.close(descriptor)
                raise PipelineError(Problem(shown, f"is {kind}, but must be a file", "put a file in its place"))
            with os.fdopen(descriptor, "rb") as file:
                if before.st_size > MAX_FILE_BYTES:
                    what = f"is {before.st_size:,} bytes long; the limit is {MAX_FILE_BYTES:,}"
                    raise PipelineError(Problem(shown, what, "is it the right file?"))
                data = file.read(MAX_FILE_BYTES + 1)
                if _moment(os.fstat(descriptor)) == _moment(before) and len(data) == before.st_size:
                    return data, before
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PipelineError(Problem(shown, *os_fault(error))) from None
    raise PipelineError(Problem(shown, "was changed each time that it was read", _AGAIN))


def _moment(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def os_fault(error: OSError) -> tuple[str, str]:
    """Return what the system refused of a file or folder, and the cure."""
    return f"cannot be read: {error.strerror or error}", _HINTS.get(error.errno or 0, "look at the disk that it is on")


def kind_of_file(mode: int) -> str | None:
    """Return what `stat` says something is that is no regular file, as people call it; None for a file."""
    if stat.S_ISREG(mode):
        return None
    return next((name for test, name in _KINDS if test(mode)), "neither a file nor a folder")


def decode(data: bytes, shown: str) -> str:
    """Return a file's text, without a byte order mark. Raises PipelineError with the line that is not UTF-8."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:2]:
        raise PipelineError(Problem(f"{shown}:1:1", "is UTF-16 and not UTF-8", "save the file as UTF-8"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise PipelineError(Problem(f"{shown}:{line}", what, "save the file as UTF-8")) from None
