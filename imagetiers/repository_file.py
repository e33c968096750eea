"""One file of the repository, whatever lies at its path: read whole, or an error that says what is wrong with it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, TypeVar

from imagetiers.errors import PipelineError, Problem

__all__ = [
    "ABSENT",
    "MAX_FILE_BYTES",
    "Reads",
    "changed",
    "decode",
    "hash_input",
    "identity",
    "kind_in_the_way",
    "kind_of_file",
    "os_fault",
    "read_file",
    "read_input",
    "read_pieces",
]

MAX_FILE_BYTES = 64 << 20
_TRIES = 3
_PIECE = 1 << 20
_HELD = 64 << 20  # bytes of contents in memory, of all tiers
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe that nobody writes to would hold an open that waits
_NO_LINK = _FLAGS | os.O_NOFOLLOW
_Taken = TypeVar("_Taken")
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


_IDENTITY = struct.Struct("<6q")
ABSENT = bytes(_IDENTITY.size)


def identity(status: os.stat_result) -> bytes:
    """Return by what a file or folder is known to be as it was: a change of what it holds changes its times at least.

    Of these the time of the last change (ctime) can be set by nobody.
    """
    return _IDENTITY.pack(
        status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev & _SIGNED
    )


def changed(one: bytes) -> int:
    """Return when what has this identity was last changed, in nanoseconds."""
    ctime: int = _IDENTITY.unpack(one)[3]
    return ctime


_SIGNED = (1 << 63) - 1


def kind_in_the_way(path: str) -> bytes:
    """Return as an identity what lies at a path where a folder may be, links followed: a folder is as good as nothing."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return _IDENTITY.pack(-1, error.errno or 0, 0, 0, 0, 0)
    return ABSENT if stat.S_ISDIR(kind) else _IDENTITY.pack(kind, 0, 0, 0, 0, 0)


class Reads:
    """What a reading has looked at, and what it looked like just before: whether it would find the same can be told from it.

    `files` are files, links and folders by path, as `lstat` has them; `targets` the same, as `stat` has them, where a link
    was followed; `kinds` are paths of which it matters only whether something else than a folder is there.
    Each has an identity, or says that there was nothing. `environment` are variables that were asked for.
    `began` is when the reading did, and `newest` the last change of anything that it met, both in nanoseconds of Unix time.

    `hashes` are those of large files that an earlier reading has found, by path and with the identity; `hashed` are those that
    this one has met. `room` is how many bytes of contents may still be held.
    """

    def __init__(self, hashes: Mapping[str, tuple[bytes, str]] = MappingProxyType({})) -> None:
        self.hashes = hashes
        self.hashed: dict[str, tuple[bytes, str]] = {}
        self.room = _HELD
        self.began = time.time_ns()
        self.files: dict[str, bytes] = {}
        self.targets: dict[str, bytes] = {}
        self.kinds: dict[str, bytes] = {}
        self.environment: dict[str, str] = {}
        self.newest = 0

    def look(self, path: str) -> None:
        """Note what lies at a path, and at the end of its links. It comes before the reading, so that no change is missed."""
        try:
            status = os.lstat(path)
            self.saw(path, status)
            if stat.S_ISLNK(status.st_mode):
                status = os.stat(path)
                self.newest = max(self.newest, status.st_ctime_ns)
                self.targets[path] = identity(status)
        except OSError:
            (self.targets if path in self.files else self.files)[path] = ABSENT

    def saw(self, path: str, status: os.stat_result) -> None:
        """Note what `lstat` said of a path."""
        self.newest = max(self.newest, status.st_ctime_ns)
        self.files[path] = identity(status)

    def hold(self, content: bytes) -> bytes | None:
        """Return the content if there is still room for it."""
        if len(content) > self.room:
            return None
        self.room -= len(content)
        return content

    def environment_variable(self, name: str) -> str:
        """Return what the environment says; nothing where it does not."""
        return self.environment.setdefault(name, os.environ.get(name, ""))

    def look_at_kind(self, path: str) -> None:
        """Note whether something else than a folder lies at a path."""
        self.kinds[path] = kind_in_the_way(path)


def read_file(path: Path, shown: str, reads: Reads | None = None) -> bytes | None:
    """Return a file's bytes, None when there is none. Links are followed; nothing else than a file is opened.

    Raises PipelineError with one problem, which calls the file `shown`.
    """
    if reads is not None:
        reads.look(str(path))
    try:
        return _read(path, shown, _FLAGS)[0]
    except FileNotFoundError:
        if path.is_symlink():
            what = f"is a link to {path.readlink()}, which does not exist"
            raise PipelineError(Problem(shown, what, "let it point to a file, or remove it")) from None
        return None


def read_input(path: str, shown: str) -> tuple[bytes, os.stat_result]:
    """Return the bytes and the status of a file that was seen a moment ago, and that is no link.

    Raises PipelineError with one problem, which calls the file `shown`.
    """
    try:
        return _read(path, shown, _NO_LINK)
    except FileNotFoundError:
        raise _vanished(shown) from None


def hash_input(path: str, shown: str) -> tuple[str, os.stat_result]:
    """Return the sha256 and the status of a file that was seen a moment ago, however large; it is not held.

    Raises PipelineError with one problem, which calls the file `shown`.
    """

    def hashed(file: IO[bytes], _: os.stat_result) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
        return digest.hexdigest(), size

    try:
        return _of_one_moment(path, shown, _NO_LINK, hashed)
    except FileNotFoundError:
        raise _vanished(shown) from None


def read_pieces(path: str, shown: str) -> Iterator[bytes]:
    """Yield a file's bytes, a mebibyte at a time. Raises PipelineError, in which the file is called `shown`."""
    try:
        with _opened(path, shown, _NO_LINK) as file:
            while piece := file.read(_PIECE):
                yield piece
    except FileNotFoundError:
        raise _vanished(shown) from None


def _vanished(shown: str) -> PipelineError:
    return PipelineError(Problem(shown, "vanished while it was read", _AGAIN))


_AGAIN = "run doit again when nothing writes there any more"


def _read(path: Path | str, shown: str, flags: int) -> tuple[bytes, os.stat_result]:
    """Read a file of a bounded size. Raises FileNotFoundError and PipelineError."""

    def whole(file: IO[bytes], status: os.stat_result) -> tuple[bytes, int]:
        if status.st_size > MAX_FILE_BYTES:
            what = f"is {status.st_size:,} bytes long; the limit is {MAX_FILE_BYTES:,}"
            raise PipelineError(Problem(shown, what, "is it the right file?"))
        data = file.read(status.st_size + 1)
        return data, len(data)

    return _of_one_moment(path, shown, flags, whole)


def _of_one_moment(
    path: Path | str, shown: str, flags: int, take: Callable[[IO[bytes], os.stat_result], tuple[_Taken, int]]
) -> tuple[_Taken, os.stat_result]:
    """Return what `take` makes of a file that was not changed meanwhile, and its status; `take` also says how much it read.

    Raises FileNotFoundError and PipelineError.
    """
    for _ in range(_TRIES):
        with _opened(path, shown, flags) as file:
            before = os.fstat(file.fileno())
            taken, size = take(file, before)
            if _moment(os.fstat(file.fileno())) == _moment(before) and size == before.st_size:
                return taken, before
    raise PipelineError(Problem(shown, "was changed each time that it was read", _AGAIN))


@contextmanager
def _opened(path: Path | str, shown: str, flags: int) -> Iterator[IO[bytes]]:
    """Open a file and nothing else. Raises FileNotFoundError, and PipelineError for what else goes wrong, also with reading."""
    try:
        descriptor = os.open(path, flags)
        kind = kind_of_file(os.fstat(descriptor).st_mode)
        if kind is not None:
            os.close(descriptor)
            raise PipelineError(Problem(shown, f"is {kind}, but must be a file", "put a file in its place"))
        with os.fdopen(descriptor, "rb") as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PipelineError(Problem(shown, *os_fault(error))) from None


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
