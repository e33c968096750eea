"""The sources below a folder: what they hold, when they were written, and who has read them since.

Who has read a file, the kernel says: each gets an access time in the past, and one that has been read has another. So a
program needs no tracing, and none goes unseen.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from imagetiers.build_folder.errors import UnusableError

__all__ = ["Source", "files_below", "read_since", "set_time", "source", "sources", "watch", "watch_times"]

MARK = 1_000_000_000
"""The access time of what nobody has read yet, in Unix nanoseconds. Under `relatime` a read replaces it: it is before the
file's last change."""

_GIT = re.compile(r"(.*/)?\.git/(HEAD|packed-refs|refs/.+|modules/.*/HEAD)")  # what says which commit it is
_CACHES = frozenset({"__pycache__"})
_EMBED, _INCLUDE = re.compile(rb"#\s*embed\b"), re.compile(rb"\.include\s")


@dataclass(frozen=True, slots=True)
class Source:
    """A file or link: kind (`file`, `exec`, `link`), SHA-256 of content or target, and time of last change in Unix ns.

    `undeclared` says that it may let compilers read other files without telling.
    """

    kind: str
    digest: str
    mtime: int
    undeclared: bool = False


def files_below(root: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield everything below a folder but byte code and what git keeps for itself: relative path and entry. Raises OSError."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name in _CACHES:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif (".git/" in path or entry.name == ".git") and not _GIT.fullmatch(path):
                    continue
                yield path, entry


def sources(root: str, but: Collection[str] = ()) -> dict[str, Source]:
    """Read everything below `root` but what fits one of the patterns.

    Raises UnusableError for what is neither file, folder nor link, or cannot be read.
    """
    found: dict[str, Source] = {}
    try:
        for path, entry in files_below(root):
            if any(fnmatchcase(path, pattern) for pattern in but):
                continue
            if entry.is_symlink():
                found[path] = Source("link", os.readlink(entry.path), 0)
            elif entry.is_file(follow_symlinks=False):
                found[path] = source(entry.path)
            elif not entry.is_dir(follow_symlinks=False):
                raise UnusableError(f"{entry.path} is neither file, folder nor link")
    except OSError as error:
        raise UnusableError(f"{error.filename}: {error.strerror}") from error
    return found


def source(path: str) -> Source:
    """Read one file. Raises OSError."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        data = file.read()
    kind = "exec" if status.st_mode & stat.S_IXUSR else "file"
    return Source(kind, hashlib.sha256(data).hexdigest(), status.st_mtime_ns, _undeclared(data))


def _undeclared(data: bytes) -> bool:
    """Say whether a compiler may read another file for this one without saying so in its list of dependencies.

    Words first: one expression for all of it would take as long for a megabyte as these for ten.
    """
    text = data.lower()
    if b"incbin" in text or b"__has_embed" in text:
        return True
    if b"embed" in text and _EMBED.search(text):
        return True
    return b".include" in text and _INCLUDE.search(text) is not None


def set_time(path: str, mtime: int, atime: int = MARK) -> None:
    """Set a file's times. Whoever does not own it, but may write to its folder, gets a copy in its place. Raises OSError."""
    try:
        os.utime(path, ns=(atime, mtime))
    except PermissionError:
        copy = f"{path}.imagetiers-copy"
        shutil.copyfile(path, copy)
        shutil.copymode(path, copy)
        os.utime(copy, ns=(atime, mtime))
        os.replace(copy, path)


def watch(root: str, found: Mapping[str, Source]) -> None:
    """Begin to watch who reads these files. Raises UnusableError where the file system does not say."""
    files = [path for path, source in found.items() if source.kind != "link"]
    try:
        for path in files:
            set_time(f"{root}/{path}", found[path].mtime)
        probe = next((path for path in files if os.path.getsize(f"{root}/{path}")), None)
        if probe is not None:
            with open(f"{root}/{probe}", "rb") as file:
                file.read(1)
            if not read_since(root, [probe]):
                raise UnusableError("the file system does not say what is read (mounted with noatime?)")
            set_time(f"{root}/{probe}", found[probe].mtime)
    except OSError as error:
        raise UnusableError(f"the times of {error.filename} cannot be set: {error.strerror}") from error


def watch_times(root: str, times: Mapping[str, int]) -> None:
    """Begin to watch who reads these files, of which the times are known. Raises OSError."""
    for path, mtime in times.items():
        set_time(f"{root}/{path}", mtime)


def read_since(root: str, paths: Iterable[str]) -> set[str]:
    """Return which of these files somebody has read since they are watched. One that is gone or new counts as read."""
    found = set()
    for path in paths:
        try:
            status = os.lstat(f"{root}/{path}")
        except OSError:
            found.add(path)
            continue
        if not stat.S_ISLNK(status.st_mode) and status.st_atime_ns != MARK:
            found.add(path)
    return found
