"""Where people read: rich on a terminal, plain lines elsewhere. What passes here can be shown (`imagetiers.visible`)."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from imagetiers.services import Bar
from imagetiers.visible import visible

if TYPE_CHECKING:
    from rich.console import Console as Rich
    from rich.console import ConsoleOptions
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.segment import Segment

__all__ = ["RichConsole"]

_LINE_SECONDS = 15.0
_WIDTH = 120  # of what is no terminal


class RichConsole:
    """The real Console. rich is imported when something is first shown: most runs of doit have nothing to show."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._open = 0
        self._lock = threading.Lock()

    @property
    def _terminal(self) -> bool:
        """Whether there is a terminal that may be sent escape sequences (https://no-color.org: not even for bold)."""
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in {None, "dumb"}

    def line(self, text: str) -> None:
        """Print a line, above any progress bars."""
        text = visible(text)
        with self._lock:
            if self._bars is not None:
                self._bars.console.print(text, markup=False, highlight=False)
            else:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()

    def print(self, renderable: object) -> None:
        """Print something that rich knows how to lay out, on a terminal as wide as that is."""
        from rich.console import Console as Rich

        plain = not self._terminal
        console = Rich(
            file=sys.stdout,
            width=None if sys.stdout.isatty() else _WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
            no_color=plain or None,
            color_system=None if plain else "auto",
        )
        with self._lock:
            console.print(_Visible(renderable), crop=False)

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[object], None]]:
        """Show each thing in the place of the one before; where that cannot be, print it. The last one stays."""
        if not self._terminal:
            yield self.print
            return
        from rich.console import Console as Rich
        from rich.live import Live

        shown: list[object] = []

        def show(renderable: object) -> None:
            shown[:] = [renderable]
            screen.update(_Visible(renderable), refresh=True)

        with Live(console=Rich(highlight=False, markup=False, emoji=False), screen=True, auto_refresh=False) as screen:
            yield show
        for renderable in shown:
            self.print(renderable)

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
                    TextColumn("{task.description}", markup=False),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    TextColumn("eta"),
                    TimeRemainingColumn(),
                    TextColumn("{task.fields[note]}", style="dim", markup=False),
                    transient=True,
                )
                self._bars.start()
            bars = self._bars
            self._open += 1
            task = bars.add_task(visible(title), total=None, note="")
        try:
            yield _TerminalBar(bars, task)
        finally:
            with self._lock:
                bars.remove_task(task)
                self._open -= 1
                if self._open == 0:
                    bars.stop()
                    self._bars = None


class _Visible:
    """What is laid out, with the text of each piece made visible; rich's own colours stay."""

    def __init__(self, renderable: object) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Rich, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._renderable, options):  # type: ignore[arg-type]
            yield segment if segment.control else segment._replace(text=visible(segment.text))


class _TerminalBar:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move the bar."""
        self._bars.update(self._task, completed=done, total=total, note=visible(note)[:60])


class _Lines:
    """A line now and then: a log is read by people too."""

    def __init__(self, title: str, console: RichConsole) -> None:
        self._title = title
        self._console = console
        self._began = self._said = time.monotonic()
        self._done = self._total = 0

    def update(self, done: int, total: int, note: str = "") -> None:
        """Print a line when the last one is long enough ago."""
        now = time.monotonic()
        if total != self._total and done < self._done:  # another piece of work: code generation first, then the compile
            self._began = now
        self._done, self._total = done, total
        if now - self._said < _LINE_SECONDS or not total:
            return
        self._said = now
        spent = now - self._began
        left = f", about {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
        tail = f"  {note[:80]}" if note else ""
        self._console.line(f"{self._title}: {done}/{total} ({100 * done // total} %) after {spent:.0f} s{left}{tail}")
