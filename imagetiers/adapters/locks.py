"""Locks between processes: flock on a file, given back by the kernel however its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from imagetiers.errors import Interrupted, LockedError, Problem
from imagetiers.services import Cancellation, Console

__all__ = ["FileLocks"]

_ASK_AGAIN = 0.2  # seconds


class FileLocks:
    """The real Locks, as files in one folder."""

    def __init__(self, folder: Path, console: Console, cancel: Cancellation) -> None:
        self._folder = folder
        self._console = console
        self._cancel = cancel

    @contextlib.contextmanager
    def hold(self, name: str, purpose: str, left: Callable[[], float | None] = lambda: None) -> Iterator[None]:
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
                self._wait(file.fileno(), purpose, holder, left)
            with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
                file.seek(0)
                file.truncate()
                os.write(file.fileno(), f"process {os.getpid()}, {purpose}\n".encode())
            yield

    def _wait(self, file: int, purpose: str, holder: str, left: Callable[[], float | None]) -> None:
        """Ask again and again: a wait in the kernel ends for no limit, and in threads but the main one for no signal."""
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if self._cancel.requested:
                raise Interrupted(Problem(purpose, f"was interrupted while it waited for {holder}"))
            seconds = left()
            if seconds is not None and seconds <= 0:
                raise LockedError(Problem(purpose, f"waited for {holder} until the time was over"))
            time.sleep(_ASK_AGAIN if seconds is None else min(_ASK_AGAIN, seconds))

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
