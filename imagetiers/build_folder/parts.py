"""The files of a build folder in tars of some megabytes, each of which is the same when its files are.

So what one changed file costs on the way to the cache is the parts that it touches.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from imagetiers.build_folder.errors import UnusableError

__all__ = ["Placed", "pack", "remove", "unpack"]

SUFFIX = ".tar"
_PARTS = 16
_FOLDERS = "zz-folders"  # unpacked last
_LARGE = 4 << 20  # bytes: such a file is a part of its own
_TAR = (
    "--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "--sort=none",
    "--numeric-owner", "--owner=0", "--group=0", "--no-recursion", "--null", "--verbatim-files-from", "--files-from=-",
)  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """Parts of the very same files, in `folder`, that were in place at a `moment` (Unix ns, by the file system's clock)."""

    folder: str
    moment: int


def pack(root: str, paths: Iterable[str], folder: str, same: Placed | None = None) -> None:
    """Write tars of these files and folders (relative to `root`) into `folder`. Raises UnusableError.

    Given where the `same` files came from, a part that nobody has touched since is a link to that.
    """
    parts: dict[str, list[str]] = defaultdict(list)
    touched = {_FOLDERS}
    try:
        for path in sorted(paths):
            status = os.lstat(f"{root}/{path}")
            if stat.S_ISDIR(status.st_mode):
                parts[_FOLDERS].append(path)
                continue
            alone, together = f"large-{_hash(path)[:16]}", _of(path)
            parts[alone if status.st_size >= _LARGE else together].append(path)
            if same is None or status.st_ctime_ns >= same.moment:
                touched |= {alone, together}  # it may have been in the other one
        for name, some in parts.items():
            if same is not None and name not in touched:
                with contextlib.suppress(OSError):
                    os.link(f"{same.folder}/{name}{SUFFIX}", f"{folder}/{name}{SUFFIX}")
                    continue
            # A folder's time is that of whatever was last put into it.
            words = [*_TAR, "--mtime=@0"] if name == _FOLDERS else _TAR
            with open(f"{folder}/{name}{SUFFIX}", "wb") as target:
                given = "\0".join(some).encode("utf-8", "surrogateescape")
                done = subprocess.run(["tar", "-c", "-C", root, *words], input=given, stdout=target, check=False)
            if done.returncode != 0:
                raise UnusableError(f"tar ended with {done.returncode}")
    except OSError as error:
        raise UnusableError(f"{error.filename}: {error.strerror}") from error


def unpack(folder: str, root: str) -> None:
    """Put the parts that lie in `folder` below `root`, a part a processor at a time. Raises UnusableError."""

    def put(name: str) -> str:
        words = ["tar", "-x", "-p", "--no-same-owner", "-C", root, "-f", f"{folder}/{name}"]
        return name if subprocess.run(words, check=False).returncode else ""

    parts = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIX) and not name.startswith("result-"))
    folders = f"{_FOLDERS}{SUFFIX}"
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        bad = [*pool.map(put, (name for name in parts if name != folders))]
    bad += map(put, {folders} & set(parts))
    for name in filter(None, bad):
        raise UnusableError(f"{name} cannot be unpacked")


def remove(root: str, paths: Iterable[str]) -> None:
    """Remove files and folders again, the innermost first; a folder that is not empty stays."""
    for path in sorted(paths, reverse=True):
        full = f"{root}/{path}"
        try:
            if os.path.isdir(full) and not os.path.islink(full):
                os.rmdir(full)
            else:
                os.unlink(full)
        except OSError:
            continue


def _of(path: str) -> str:
    """Return the part of a small file: by its folder, so that neighbours lie together; ninja's own files always change."""
    folder, _, name = path.rpartition("/")
    if name.startswith(".ninja_"):
        return "ninja"
    return f"{int(_hash(folder)[:8], 16) % _PARTS:02d}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
