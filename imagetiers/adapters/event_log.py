"""Events as lines of JSON, in a file or on the standard output, and a console that tells them what people are told."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from imagetiers.adapters.console import RichConsole
from imagetiers.events import Event, Events, Line, LogBegan, Progressed, encode
from imagetiers.services import Bar

__all__ = ["EventLog", "ToldConsole"]

_PROGRESS_SECONDS = 1.0


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


@dataclass(frozen=True)
class ToldConsole:
    """The Console of the operations: what it is told becomes events, which a display shows; tables go to people at once."""

    console: RichConsole
    events: Events

    def line(self, text: str) -> None:
        """Tell a line."""
        self.events(Line(text))

    def write(self, text: str, *, error: bool = False) -> None:
        """Write text as it is."""
        self.console.write(text, error=error)

    def print(self, renderable: object) -> None:
        """Print a table; programs have what is in it from other events, or from `doit status --json`."""
        self.console.print(renderable)

    def live(self) -> AbstractContextManager[Callable[[object], None]]:
        """Show things in the place of one another."""
        return self.console.live()

    @contextlib.contextmanager
    def progress(self, title: str, log: Path | None = None) -> Iterator[Bar]:
        """Tell of a progress, and where its lines are written."""
        if log is not None:
            self.events(LogBegan(title, str(log)))
        told = _ToldBar(title, self.events)
        yield told
        told.end()


class _ToldBar:
    def __init__(self, title: str, events: Events) -> None:
        self._title, self._events = title, events
        self._said = float("-inf")
        self._left: Progressed | None = None

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move the bar."""
        self._left = Progressed(self._title, done, total, note)
        if time.monotonic() - self._said >= _PROGRESS_SECONDS:
            self._said = time.monotonic()
            self.end()

    def end(self) -> None:
        """Tell how far it came, unless that was told."""
        left, self._left = self._left, None
        if left is not None:
            self._events(left)
