"""Where people read: rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imagetiers.ports import Bar

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ["RichConsole"]

_LINE_SECONDS = 15.0


class RichConsole:
    """The real Console. rich is imported when something is first shown: most runs of doit have nothing to show."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._open = 0
        self._lock = threading.Lock()

    @property
    def _terminal(self) -> bool:
        return sys.stdout.isatty()

    def line(self, text: str) -> None:
        """Print a line, above any progress bars."""
        with self._lock:
            if self._bars is not None:
                self._bars.console.print(text, markup=False, highlight=False)
            else:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()

    def print(self, renderable: object) -> None:
        """Print something that rich knows how to lay out."""
        from rich.console import Console as Rich

        width = None if self._terminal else 120
        Rich(file=sys.stdout, width=width, highlight=False).print(renderable)

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Bar]:
        """Open a progress display; all that are open at once share one place on the terminal."""
        if not self._terminal:
            yield _Lines(title, self)
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        with self._lock:
            if self._bars is None:
                self._bars = Bars(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    TextColumn("eta"),
                    TimeRemainingColumn(),
                    TextColumn("[dim]{task.fields[note]}"),
                    transient=True,
                )
                self._bars.start()
            bars = self._bars
            self._open += 1
            task = bars.add_task(title, total=None, note="")
        try:
            yield _TerminalBar(bars, task)
        finally:
            with self._lock:
                bars.remove_task(task)
                self._open -= 1
                if self._open == 0:
                    bars.stop()
                    self._bars = None


class _TerminalBar:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move the bar."""
        self._bars.update(self._task, completed=done, total=total, note=note[:60])


class _Lines:
    """A line now and then: a log is read by people too."""

    def __init__(self, title: str, console: RichConsole) -> None:
        self._title = title
        self._console = console
        self._began = self._said = time.monotonic()
        self._total = 0

    def update(self, done: int, total: int, note: str = "") -> None:
        """Print a line when the last one is long enough ago."""
        now = time.monotonic()
        if total != self._total:  # another piece of work: code generation first, then the compile
            self._total, self._began = total, now
        if now - self._said < _LINE_SECONDS or not total:
            return
        self._said = now
        spent = now - self._began
        left = f", about {spent / done * (total - done):.0f} s left" if done else ""
        tail = f"  {note[:80]}" if note else ""
        self._console.line(f"{self._title}: {done}/{total} ({100 * done // total} %) after {spent:.0f} s{left}{tail}")
