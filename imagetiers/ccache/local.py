"""A ccache directory on this machine: what is in it, how an entry gets in, and the size counters.

Everything here is safe while compilers use the directory: ccache writes entries by rename and so does this; temporary
names contain `.tmp.`, which makes ccache (4.7 to 4.14) remove what a killed run left after an hour. Folders are read
without following links.
"""

# ruff: noqa: PTH104, PTH108, PTH115  12,000 entries: building a Path for each call would cost more than the call

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import struct
import tempfile
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import not_
from pathlib import Path
from typing import NamedTuple

from imagetiers.ccache.format.entry import PAYLOAD_MAX, TRAILER, Kind, are_names, is_name, path_of, suffix_kind

__all__ = [
    "LocalEntries",
    "LocalEntry",
    "Look",
    "Stamp",
    "counted_folders",
    "entry_file",
    "look",
    "look_of",
    "new_token",
    "put",
    "read_entry",
    "recount",
    "recount_folder",
    "scan",
    "segments_folder",
    "stamp",
    "sweep",
]

_HEX = "0123456789abcdef"
_SHALLOWEST, _DEEPEST = 2, 4
_LOCK_SECONDS = 5.0
_STALE_SECONDS = 2.5
_FILES, _SIZE, _SUBDIR_FILES, _SUBDIR_SIZE, _COUNTERS = 11, 12, 49, 65, 81
_STAMP_SIZE = 15
_HALF_WRITTEN = re.compile(r"\.tmp\.[0-9a-f]{8}$|^\.[0-9a-f]{16}\.part$")
_LEFT_SECONDS = 3600.0
_TIME_MAX = (1 << 63) - 1
_IDENTITY = struct.Struct("<QQq")


class LocalEntry(NamedTuple):
    """An entry file: its path, size in bytes, and mtime in Unix nanoseconds (ccache's clock of last use)."""

    path: str
    size: int
    mtime: int


class LocalEntries(Mapping[str, LocalEntry]):
    """The entry files of a directory by ccache's name of the entry, in the order in which they were found.

    Column by column: of two million files it takes some 500 MB less than that many objects, and a LocalEntry is made only
    when one is asked for.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._folders: list[tuple[str, int]] = []
        self._places = array("I")
        self._sizes, self._mtimes, self._inodes, self._ctimes = (array(code) for code in "qqQq")

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def __getitem__(self, name: str) -> LocalEntry:
        number = self._numbers[name]
        folder, depth = self._folders[self._places[number]]
        return LocalEntry(f"{folder}/{name[depth:]}", self._sizes[number], self._mtimes[number])

    def identities(self) -> Iterator[bytes]:
        """Return for each file what tells it from all others, and from itself once it is written to: inode, size, ctime."""
        return map(_IDENTITY.pack, self._inodes, self._sizes, self._ctimes)

    def used_since(self, since: int | None) -> frozenset[str]:
        """Return the names of the entries with an mtime of `since` (Unix ns) or later; of all without it."""
        if since is None:
            return frozenset(self._numbers)
        return frozenset(compress(self._numbers, map(since.__le__, self._mtimes)))

    def add(self, folder: str, depth: int, names: Sequence[str], statuses: Sequence[os.stat_result]) -> None:
        """Add the files of a folder so many levels down; of two files of one name the one that was added first stays."""
        if depth > _SHALLOWEST and not self._numbers.keys().isdisjoint(
            names
        ):  # only below a folder is there another of it
            new = [name not in self._numbers for name in names]
            names, statuses = list(compress(names, new)), list(compress(statuses, new))
        first = len(self._numbers)
        self._numbers.update(zip(names, range(first, first + len(names)), strict=True))
        self._places.extend([len(self._folders)] * len(names))
        self._folders.append((folder, depth))
        self._sizes.extend([status.st_size for status in statuses])
        self._mtimes.extend(_times([status.st_mtime_ns for status in statuses]))
        self._inodes.extend([status.st_ino for status in statuses])
        self._ctimes.extend(_times([status.st_ctime_ns for status in statuses]))


class Look(NamedTuple):
    """A file's identity (see `LocalEntries`), ctime in Unix nanoseconds and device, and the content id in it."""

    identity: bytes
    ctime: int
    device: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells two versions of an entry apart (see `merge.Version`), read from 31 bytes of the file."""

    kind: Kind
    version: tuple[int, int, bytes]


def segments_folder(directory: Path) -> Path:
    """Where index segments are kept: a folder of the cache directory that ccache itself never looks into."""
    return directory / "imagetiers"


def sweep(prefix: str, folder: Path | None = None, *, age: float = 86_400.0) -> None:
    """Remove what killed processes left in the folder for temporary files under this prefix, `age` seconds ago or more."""
    oldest = time.time() - age
    with contextlib.suppress(OSError), os.scandir(folder or tempfile.gettempdir()) as children:
        for child in children:
            with contextlib.suppress(OSError):
                status = child.stat(follow_symlinks=False)
                if child.name.startswith(prefix) and status.st_mtime < oldest and status.st_uid == os.getuid():
                    if child.is_dir(follow_symlinks=False):
                        shutil.rmtree(child.path, ignore_errors=True)
                    else:
                        os.unlink(child.path)


def scan(directory: Path) -> LocalEntries:
    """Find all entries, at all folder levels and of both naming schemes. Raises OSError when it cannot be read.

    Files and folders that vanish meanwhile are no error (ccache cleans up); an unreadable one is, for otherwise half a
    cache would pass for the whole.
    """
    found = LocalEntries()
    for level_1 in _folders(os.fspath(directory), missing_ok=False):
        _scan_below(level_1.path, (level_1.name,), found)
    return found


def look(path: str) -> Look | None:
    """Read what an entry's file is and its content id; None when it vanished or is too short. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)  # before the content is read: what is written after that changes the ctime
        content = os.pread(fd, TRAILER, max(0, status.st_size - TRAILER))
    finally:
        os.close(fd)
    if len(content) != TRAILER:
        return None
    return look_of(status, content)


def look_of(status: os.stat_result, content: bytes) -> Look:
    """Return what a file is that had this status before its content was read, and this content id in it."""
    identity = _IDENTITY.pack(status.st_ino, status.st_size, min(status.st_ctime_ns, _TIME_MAX))
    return Look(identity, status.st_ctime_ns, status.st_dev, content)


def read_entry(directory: Path, key: str) -> bytes | None:
    """Return the manifest of that key, as ccache's log names it: without a suffix. None where it cannot be read."""
    for name in filter(is_name, (f"{key}M", key)):
        path = entry_file(directory, name)
        with contextlib.suppress(OSError):
            if path is not None and path.stat().st_size <= PAYLOAD_MAX:
                return path.read_bytes()
    return None


def entry_file(directory: Path, name: str) -> Path | None:
    """Return the file of an entry, None where there is none. A directory of many files has it one or two levels deeper."""
    for depth in range(_SHALLOWEST, _DEEPEST + 1):
        path = directory.joinpath(*name[:depth], name[depth:])
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                return path
    return None


def stamp(path: str, size: int) -> Stamp | None:
    """Read an entry's kind, creation time and content id; None when it vanished or is too short."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        head = os.pread(fd, _STAMP_SIZE, 0)
        content = os.pread(fd, TRAILER, max(0, size - TRAILER))
    finally:
        os.close(fd)
    if len(head) != _STAMP_SIZE or len(content) != TRAILER or head[3] > Kind.MANIFEST:
        return None
    return Stamp(Kind(head[3]), (int.from_bytes(head[7:15], "big"), size, content))


def put(directory: str, name: str, data: bytes | memoryview, mtime: int, token: str, *, replace: bool) -> bool:
    """Put an entry where every ccache version finds it (level 2), with its mtime in ns; say whether it was.

    `token` is of whoever puts several (`new_token`). Unless `replace`, an entry that appeared meanwhile stays. Raises OSError.
    """
    final = f"{directory}/{path_of(name)}"
    temporary = f"{final}.tmp.{token}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)
        return settle(temporary, final, replace=replace)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def new_token() -> str:
    """Draw what no other writer has in the names of its temporary files: these hold the entry's name, too."""
    return secrets.token_hex(4)


def settle(temporary: str, final: str, *, replace: bool) -> bool:
    """Give a finished temporary file its name; unless `replace`, whatever has that name already stays."""
    if replace:
        os.rename(temporary, final)
        return True
    try:
        os.link(temporary, final)
    except FileExistsError:
        os.unlink(temporary)
        return False
    except OSError:  # a file system without hard links
        os.rename(temporary, final)
        return True
    os.unlink(temporary)
    return True


def recount(directory: Path) -> None:
    """Set ccache's counters of files and KiB to what is there, so that `max_size` works after a pull.

    ccache adds to these counters on every write and cleans up by them; it never looks at the disk first. They are lines
    of `<h>/stats`: 11 files and 12 KiB of a first-level folder (4.7 reads only these), 49-64 and 65-80 the same for its
    second-level folders (since 4.8; a sum that differs makes ccache recount by itself). Written under ccache's own
    lock. Locks that cannot be had in 5 s leave that folder's counters as they are. Raises OSError.
    """
    for folder in counted_folders(directory):
        recount_folder(folder)


def counted_folders(directory: Path) -> list[Path]:
    """Return the folders that have counters of their own."""
    return [folder for folder in (directory / digit for digit in _HEX) if folder.is_dir()]


def recount_folder(level_1: Path) -> None:
    """Do for one first-level folder what `recount` does for all."""
    path = level_1 / "stats"
    with _locked(path) as held:
        if not held:
            return
        counters = _read_counters(path)
        for number, below in enumerate(_HEX):
            files, size = _usage(os.fspath(level_1 / below))
            counters[_SUBDIR_FILES + number] = files
            counters[_SUBDIR_SIZE + number] = size // 1024
        counters[_FILES] = sum(counters[_SUBDIR_FILES : _SUBDIR_FILES + 16])
        counters[_SIZE] = sum(counters[_SUBDIR_SIZE : _SUBDIR_SIZE + 16])
        temporary = level_1 / f"stats.tmp.{secrets.token_hex(4)}"
        try:
            temporary.write_text("".join(f"{counter}\n" for counter in counters))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _scan_below(path: str, above: tuple[str, ...], found: LocalEntries) -> None:
    """Find the entries of a folder, through its descriptor: the kernel then walks no path for each of 200,000 files."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        with os.scandir(fd) as listing:
            children = list(listing)
        files = [child for child in children if len(child.name) > 1]
        prefix = "".join(above)
        names = [prefix + child.name for child in files]
        if len(above) < _SHALLOWEST or not are_names(names):
            are = [len(above) >= _SHALLOWEST and is_name(name) for name in names]
            for child in compress(files, map(not_, are)):
                _remove_if_left(child, fd)
            names, files = list(compress(names, are)), list(compress(files, are))
        if files:
            found.add(path, len(above), *_stat(names, files))
    finally:
        os.close(fd)
    if len(above) < _DEEPEST:
        for child in children:
            if len(child.name) == 1 and child.name in _HEX and child.is_dir(follow_symlinks=False):
                _scan_below(f"{path}/{child.name}", (*above, child.name), found)


def _stat(names: list[str], files: list[os.DirEntry[str]]) -> tuple[list[str], list[os.stat_result]]:
    """Look at the regular files among these: most of what a push with nothing new costs."""
    with contextlib.suppress(FileNotFoundError):
        statuses = [child.stat(follow_symlinks=False) for child in files if child.is_file(follow_symlinks=False)]
        if len(statuses) == len(files):
            return names, statuses
    found = {}
    for name, child in zip(names, files, strict=True):
        with contextlib.suppress(FileNotFoundError):
            if child.is_file(follow_symlinks=False):
                found[name] = child.stat(follow_symlinks=False)
    return list(found), list(found.values())


def _times(times: list[int]) -> list[int]:
    """Put times of after the year 2262, as some file systems can have them, at the last one that has room in 8 bytes."""
    return times if max(times, default=0) <= _TIME_MAX else [min(time, _TIME_MAX) for time in times]


def _remove_if_left(child: os.DirEntry[str], folder: int) -> None:
    """Remove what a killed pull or push left half written an hour ago or more: ccache does only when it cleans up."""
    if not _HALF_WRITTEN.search(child.name):
        return
    with contextlib.suppress(OSError):
        if time.time() - child.stat(follow_symlinks=False).st_mtime > _LEFT_SECONDS:
            os.unlink(child.name, dir_fd=folder)


def _folders(path: str, *, missing_ok: bool) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as children:
            yield from [c for c in children if c.name in _HEX and len(c.name) == 1 and c.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        if not missing_ok:
            raise


def _usage(folder: str) -> tuple[int, int]:
    """Count a second-level folder's files and their bytes on disk, as ccache does."""
    files = size = 0
    stack = [folder]
    while stack:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(stack.pop()) as children:
            for child in children:
                if child.is_dir(follow_symlinks=False):
                    stack.append(child.path)
                elif child.name not in {"CACHEDIR.TAG", "stats"} and not child.name.startswith(".nfs"):
                    with contextlib.suppress(FileNotFoundError):
                        size += child.stat(follow_symlinks=False).st_blocks * 512
                        files += 1
    return files, size


def _read_counters(path: Path) -> list[int]:
    try:
        found = [int(number) for number in re.findall(r"\d{1,20}", path.read_text("ascii", "replace"))[:1000]]
    except FileNotFoundError:
        found = []
    return found + [0] * max(0, _COUNTERS - len(found))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold ccache's lock of a stats file: a symbolic link beside it whose target says who holds it."""
    lock = Path(f"{path}.lock")
    mine = f"{socket.gethostname()}-{os.getpid()}-imagetiers-{secrets.token_hex(4)}"
    deadline = time.monotonic() + _LOCK_SECONDS
    seen, since = "", time.monotonic()
    while True:
        try:
            lock.symlink_to(mine)
            break
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if (target := os.readlink(lock)) != seen:
                    seen, since = target, time.monotonic()
            alive = Path(f"{path}.alive")
            if time.monotonic() - since > _STALE_SECONDS and not alive.exists():
                lock.unlink(missing_ok=True)  # its owner was killed; ccache breaks such locks after 2 s, too
            if time.monotonic() > deadline:
                yield False
                return
            time.sleep(0.02)
    try:
        yield True
    finally:
        lock.unlink(missing_ok=True)


def kind_of(name: str, known: Kind | None) -> Kind | None:
    """Tell an entry's kind without opening it where the name or an index says it."""
    return suffix_kind(name) if known is None else known
