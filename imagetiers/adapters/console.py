"""Where people read: rich on a terminal, plain lines elsewhere. What passes here can be shown (`imagetiers.visible`)."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from imagetiers.visible import visible

if TYPE_CHECKING:
    from rich.console import Console as Rich
    from rich.console import ConsoleOptions
    from rich.segment import Segment
    from rich.text import Text

__all__ = ["RichConsole"]

_WIDTH = 120  # of what is no terminal
_CLEAR_DOWN = "\x1b[J"


class RichConsole:
    """Lines and tables on stdout, and below them, on a terminal, a region of lines that change.

    rich is imported when something is first shown: most runs of doit have nothing to show. No mode of the terminal is
    changed for the region, not even the cursor hidden: killed at any moment, it leaves a terminal that works.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._shown: list[int] = []  # the widths of the region's lines
        self._drawn = ""

    @property
    def is_terminal(self) -> bool:
        """Whether there is a terminal that may be sent escape sequences (https://no-color.org: not even for bold)."""
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in {None, "dumb"}

    def line(self, text: str) -> None:
        """Print a line, above the region."""
        self.write(visible(text) + "\n")

    def write(self, text: str, *, error: bool = False) -> None:
        """Write text as it is, above the region."""
        stream = sys.stderr if error else sys.stdout
        with self._lock, self._aside():
            stream.write(text)
            stream.flush()

    def print(self, renderable: object) -> None:
        """Print something that rich knows how to lay out, on a terminal as wide as that is."""
        from rich.console import Console as Rich

        plain = not self.is_terminal
        console = Rich(
            file=sys.stdout,
            width=None if sys.stdout.isatty() else _WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
            no_color=plain or None,
            color_system=None if plain else "auto",
        )
        with self._lock, self._aside():
            console.print(_Visible(renderable), crop=False)

    def region(self, frame: Callable[[int, int], Sequence[Text]]) -> None:
        """Draw the region anew: `frame` returns its lines for a width and a height. Without a line there is none."""
        from rich.console import Console as Rich

        columns, rows = shutil.get_terminal_size()
        with self._lock:
            lines = frame(max(1, columns - 1), max(1, rows - 1))  # nothing stands in the last column: there lines wrap
            console = Rich(file=sys.stdout, width=columns, highlight=False, markup=False, emoji=False)
            with console.capture() as drawn:
                for line in lines:
                    console.print(line, no_wrap=True, crop=True)
            text = self._erasing(columns)
            self._drawn = drawn.get()
            self._shown = [line.cell_len for line in lines]
            if text or self._drawn:
                sys.stdout.write(text + self._drawn)
                sys.stdout.flush()

    def end_region(self) -> None:
        """Remove the region."""
        with self._lock, self._aside():
            self._shown, self._drawn = [], ""

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Remove the region for the block."""
        if self._shown:
            sys.stdout.write(self._erasing(shutil.get_terminal_size().columns))
            sys.stdout.flush()
        yield
        if self._shown:
            sys.stdout.write(self._drawn)
            sys.stdout.flush()

    def _erasing(self, columns: int) -> str:
        """Return what removes the region; a terminal that has become narrower has broken its lines."""
        rows = sum(max(1, -(-width // columns)) for width in self._shown)
        return f"\r\x1b[{rows}A{_CLEAR_DOWN}" if rows else ""

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[object], None]]:
        """Show each thing in the place of the one before; where that cannot be, print it. The last one stays."""
        if not self.is_terminal:
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


class _Visible:
    """What is laid out, with the text of each piece made visible; rich's own colours stay."""

    def __init__(self, renderable: object) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Rich, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._renderable, options):  # type: ignore[arg-type]
            yield segment if segment.control else segment._replace(text=visible(segment.text))
