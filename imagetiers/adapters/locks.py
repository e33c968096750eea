"""Locks between processes: flock on a file, given back by the kernel however its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from imagetiers.services import Console

__all__ = ["FileLocks"]


class FileLocks:
    """The real Locks, as files in one folder."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console

    @contextlib.contextmanager
    def hold(self, name: str, purpose: str) -> Iterator[None]:
        """Hold the lock of that name for the block; while somebody else has it, say who and wait.

        The file stays: removing it would let a third one lock a file that the second still waits for.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{name}.lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read(200).strip() or "another doit"
                self._console.line(f"{purpose}: waiting for {holder}")
                fcntl.flock(file, fcntl.LOCK_EX)
            with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
                file.seek(0)
                file.truncate()
                os.write(file.fileno(), f"process {os.getpid()}, {purpose}\n".encode())
            yield

    def held(self, folder: Path | None = None) -> frozenset[str]:
        """Return the names of the locks that somebody holds at this moment, this process included."""
        held = set()
        where = folder or self._folder
        for path in where.glob("*.lock") if where.is_dir() else ():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.add(path.name.removesuffix(".lock"))
        return frozenset(held)
