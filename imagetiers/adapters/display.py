"""The display of a run: it is told the events, as `--events` is, and shows them to people.

On a terminal, a region of lines below what is printed (`report.live_build`). Elsewhere a line now and then.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagetiers.adapters.console import RichConsole
from imagetiers.events import Compiling, Event, Events, Line, LogBegan, Progressed, RunEnded
from imagetiers.services import Bar
from imagetiers.visible import visible

if TYPE_CHECKING:
    from imagetiers.report.live_build import LiveBuild

__all__ = ["BuildDisplay", "ToldConsole"]

_LINE_SECONDS = 15.0
_DRAW_SECONDS = 0.5
_PROGRESS_SECONDS = 1.0
_END = 16 << 10  # bytes of a log in which its last lines are looked for
_TOLD = (Progressed, Compiling, LogBegan)  # what there can be something to show of


class BuildDisplay:
    """Shows a run on a console. rich, and what lays out, are imported when there is first something to show."""

    def __init__(self, console: RichConsole) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._before: list[tuple[Event, float]] = []  # until there is something to show
        self._live: LiveBuild | None = None
        self._said: dict[str, float] = {}
        self._github = self._github_log()
        self._over = threading.Event()

    def _github_log(self) -> Events | None:
        if not os.environ.get("GITHUB_ACTIONS"):
            return None
        from imagetiers.adapters.github import GithubLog, in_github

        return GithubLog(self._console.line) if in_github() else None

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Line):
            self._console.line(event.text)
        if self._github is not None:
            self._github(event)
        if isinstance(event, Line):
            return
        with self._lock:
            self._take(event)
        if isinstance(event, RunEnded):
            self._close()

    def _take(self, event: Event) -> None:
        now = time.monotonic()
        if self._live is None:
            self._before.append((event, now))
            if not isinstance(event, _TOLD):
                return
            self._live = self._open()
        else:
            self._live.take(event, now)
        if not self._console.is_terminal and isinstance(event, (Progressed, Compiling)):
            self._say(event, now)

    def _open(self) -> LiveBuild:
        from imagetiers.report.live_build import LiveBuild

        live = LiveBuild()
        for event, at in self._before:
            live.take(event, at)
        self._before.clear()
        if self._console.is_terminal:
            atexit.register(self._close)
            threading.Thread(target=self._draw, args=[live], name="display", daemon=True).start()
        return live

    def _say(self, event: Progressed | Compiling, now: float) -> None:
        from imagetiers.report.live_build import details

        live = self._live
        assert live is not None  # noqa: S101  it was opened by this event, or before
        task = event.title.partition(": ")[0] if isinstance(event, Progressed) else event.task
        work = live.works[task]
        if now - self._said.setdefault(task, work.began) < _LINE_SECONDS or not (work.total or work.note):
            return
        self._said[task] = now
        told = ", ".join(text for _, text in details(work, now))
        note = f": {work.note[:80]}" if work.note else ""
        self._console.line(f"{time.strftime('%H:%M:%S')} {work.task}: {told}{note}")

    def _draw(self, live: LiveBuild) -> None:
        def frame(width: int, height: int) -> Sequence[Any]:
            with self._lock:
                return live.frame(time.monotonic(), width, height, _last_lines)

        while not self._over.wait(_DRAW_SECONDS):
            self._console.region(frame)

    def _close(self) -> None:
        self._over.set()
        self._console.end_region()


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


def _last_lines(path: str, count: int) -> list[str]:
    """Return the last lines of a file that is being written, none where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _END))
            text = file.read(_END).decode(errors="replace")
    except OSError:
        return []
    return [visible(line) for line in text.split("\n") if line.strip()][-count:]
