"""What files of a ccache directory hold, remembered from one push to the next: a file that is not written to is read once.

Half of a cache's entries are manifests, and whether one is in its namespace is said by its last 16 bytes: 100,000 files
to open. A file that has the inode, size and ctime it had when it was read still holds what it held: nobody but the
kernel sets a ctime, and every write, rename and touch does. It must have been a few seconds old when it was read, or
a second write could have followed within one tick of the clock.

`seen`, beside the kept index segments of a namespace, is `magic "ITSN" (4), format version 1 (2), zero (2)`, records
of 40 bytes in any order (inode, size, ctime in Unix nanoseconds, 8 bytes each, little-endian; content id, 16), and
the XXH3-128 of all that. One that is damaged or not there costs the time to read the files again, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import xxhash

from imagetiers.ccache.format.index import ENTRIES_MAX
from imagetiers.ccache.local import LocalEntries, Look, look
from imagetiers.ccache.namespace import SEEN

__all__ = ["KnownFiles"]

_MAGIC = b"ITSN\x01\x00\x00\x00"
_IDENTITY_SIZE = 24
_RECORD_SIZE = 40
_CHECK_SIZE = 16
_SETTLED = 3_000_000_000
"""Nanoseconds since its last change after which a file counts as settled. Some file systems' times are two seconds apart."""


class KnownFiles:
    """What is remembered of a directory's files, kept in `folder` (None: nowhere). Unreadable or unwritable is no error."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known = frozenset(_records(folder / SEEN)) if folder else frozenset()
        self._fresh: set[bytes] = set()
        self._hits = 0
        self._settled, self._device = _settled(folder) if folder else (0, -1)

    def holds(self, local: LocalEntries, name: str, identity: bytes, content: bytes) -> bool:
        """Say whether an entry's file of this identity has this content id; read it where that is not known."""
        if identity + content in self._known:
            self._hits += 1
            return True
        with contextlib.suppress(OSError):
            found = look(local[name].path)
            if found is not None:
                self.remember(found)
                return found.content == content
        return False

    def remember(self, found: Look) -> None:
        """Remember what a file holds that was read, if it had settled by then."""
        if found.device == self._device and found.ctime < self._settled:
            self._fresh.add(found.identity + found.content)

    def save(self, local: LocalEntries) -> None:
        """Keep what was learned, if it is worth the writing, and of what was known what is still so."""
        if self._folder is None or len(self._fresh) <= self._hits // 16:
            return
        there = set(local.identities())
        records = self._fresh.union(record for record in self._known if record[:_IDENTITY_SIZE] in there)
        data = _MAGIC + b"".join(records)
        with contextlib.suppress(OSError):
            fd, temporary = tempfile.mkstemp(dir=self._folder)
            try:
                with open(fd, "wb") as file:  # noqa: PTH123  a descriptor
                    file.write(data + xxhash.xxh3_128_digest(data))
                Path(temporary).replace(self._folder / SEEN)
            finally:
                Path(temporary).unlink(missing_ok=True)


def _records(path: Path) -> Iterator[bytes]:
    most = len(_MAGIC) + _RECORD_SIZE * ENTRIES_MAX + _CHECK_SIZE
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError:
        return
    body, check = data[:-_CHECK_SIZE], data[-_CHECK_SIZE:]
    fits = len(data) <= most and body.startswith(_MAGIC) and not (len(body) - len(_MAGIC)) % _RECORD_SIZE
    if fits and xxhash.xxh3_128_digest(body) == check:
        for at in range(len(_MAGIC), len(body), _RECORD_SIZE):
            yield body[at : at + _RECORD_SIZE]


def _settled(folder: Path) -> tuple[int, int]:
    """Return before which ctime (Unix ns) a file has settled, by its file system's own clock, and which that is."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # Some file systems (sshfs) show the mtime for a ctime. There nothing has settled since 1970.
            os.utime(file.fileno(), (0, 0))
            status = os.fstat(file.fileno())
            return status.st_ctime_ns - _SETTLED, status.st_dev
    return 0, -1
