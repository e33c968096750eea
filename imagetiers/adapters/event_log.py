"""Events as lines of JSON, in a file or on the standard output."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable

from imagetiers.events import Event, encode

__all__ = ["EventLog"]


class EventLog:
    """Writes each event at once, whole: who follows the file never reads half a line.

    When that fails (the disk is full, the reader has gone), it says so once, and is silent from then on.
    """

    def __init__(self, descriptor: int, name: str, clock: Callable[[], float] = time.time) -> None:
        self._descriptor: int | None = descriptor
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str) -> EventLog:
        """Begin a file anew, or take the standard output for `-`: then what people read goes to stderr. Raises OSError."""
        if path != "-":
            return cls(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644), path)
        sys.stdout.flush()
        log = cls(os.dup(1), "the standard output")
        os.dup2(2, 1)
        return log

    def __call__(self, event: Event) -> None:
        """Write an event."""
        data = encode(event, self._clock()).encode("ascii")
        with self._lock:
            if self._descriptor is None:
                return
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.close(self._descriptor)
                self._descriptor = None
                sys.stderr.write(f"--events: {self._name}: {error.strerror}: no more events are written\n")
