"""What this machine has seen of signed objects: who can write a bucket can put an older one back, but not past this.

Remembered are heads and records of publication, where an older one would be another answer. Of each the newest that was
believed: when it was signed, by the store's clock, and a head's number. A head is older when both are less, so neither a clock
that was put right nor a namespace that began anew is taken for an attack.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from imagetiers.documents import parse_object
from imagetiers.errors import CorruptError, Problem, UntrustedError

__all__ = ["Memory", "Version", "is_remembered", "version_of"]

_PURPOSES = frozenset({"ccache-head", "published"})


@dataclass(frozen=True, slots=True)
class Version:
    """When an object was signed (Unix s), and the number of a head; None where there is none."""

    at: int
    sequence: int | None = None

    def is_older_than(self, other: Version) -> bool:
        """Say whether this one came before the other."""
        if self.sequence is None or other.sequence is None:
            return self.at < other.at
        return self.sequence < other.sequence and self.at <= other.at


def is_remembered(purpose: str) -> bool:
    """Say whether objects of that purpose are remembered."""
    return purpose in _PURPOSES


def version_of(purpose: str, at: int, content: bytes) -> Version:
    """Return what is remembered of an object; a head that cannot be read has no number."""
    if purpose == "ccache-head":
        from imagetiers.ccache.format.head import decode_head  # with xxhash and zstandard

        with contextlib.suppress(CorruptError):
            return Version(at, decode_head(content).state.sequence)
    return Version(at)


class Memory:
    """A folder of small files, one for each object of a store (`url`). Where it cannot be written, nothing is remembered."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    def check(self, name: str, version: Version) -> None:
        """Raise UntrustedError for an object that is older than one which was seen here; else remember it."""
        with self._open(name) as file:
            if file is None:
                return
            seen = _read(file)
            if seen is not None and version.is_older_than(seen):
                what = f"is older than what this machine has seen there: {_told(version)} after {_told(seen)}"
                hint = f"somebody has put it back; if that was right: rm {self._path(name)}"
                raise UntrustedError(Problem(name, what, hint))
            if version != seen:
                file.seek(0)
                file.truncate()
                file.write(json.dumps({"name": name, "at": version.at, "sequence": version.sequence}))

    def _path(self, name: str) -> Path:
        return self._folder / hashlib.sha256(f"{self._url}\0{name}".encode()).hexdigest()[:32]

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[TextIO | None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = self._path(name).open("a+", encoding="utf-8")
        except OSError:
            yield None
            return
        with file:
            with contextlib.suppress(BlockingIOError):  # who has it reads and writes a line: what we read is good, too
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(0)
            yield file


def _read(file: TextIO) -> Version | None:
    try:
        document = parse_object(file.read(4096)) or {}
    except ValueError:
        return None
    at, sequence = document.get("at"), document.get("sequence")
    if type(at) is not int or not (sequence is None or type(sequence) is int):
        return None
    return Version(at, sequence)


def _told(version: Version) -> str:
    return f"signed at {version.at}" if version.sequence is None else f"state {version.sequence}"
