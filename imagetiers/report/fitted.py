"""Tables on narrow terminals: whole columns go, in a given order and the first one never, before a name is cut. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Column, Table
from rich.text import Text

from imagetiers.visible import visible

__all__ = ["Fitted"]

_GAP = 2  # between two columns
_NARROWEST, _READABLE = 16, 40  # of a column whose text may be wrapped


class Fitted:
    """A table that leaves out columns until the rest fits; `spare` are their headers, in the order in which they go.

    What goes into a file or a pipe leaves nothing out and is as wide as it must be; with `whole_lines` it has a line a row.
    Columns that are `long` are wrapped only where they are still readable.
    """

    def __init__(
        self, table: Table, spare: tuple[str, ...], *, whole_lines: bool = False, long: tuple[str, ...] = ()
    ) -> None:
        self.table = table
        self._spare = spare
        self._whole_lines = whole_lines
        self._long = long

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        columns = list(self.table.columns)
        if console.is_terminal:
            for header in self._spare:
                if _needed(columns, _NARROWEST, self._long) <= options.max_width:
                    break
                columns = [column for column in columns if column.header != header]
        self.table.title = visible(str(self.table.title))
        self.table.columns = [
            replace(column, _index=index, _cells=[_visible(cell) for cell in column.cells])
            for index, column in enumerate(columns)
        ]
        self.table.columns[0].overflow = "fold"
        self.table.columns[0].no_wrap = len(columns) > 1
        readable = max(map(_width, columns)) if self._whole_lines else _READABLE
        if not console.is_terminal and _needed(columns, readable) > options.max_width:
            self.table.width = _needed(columns, readable)
        yield self.table


def _visible(cell: RenderableType) -> RenderableType:
    """Make a cell visible before it is laid out, so that the columns stay straight."""
    return Text(visible(cell.plain), style=cell.style) if isinstance(cell, Text) else visible(str(cell))


def _needed(columns: list[Column], narrowest: int, long: tuple[str, ...] = ()) -> int:
    least = {header: max(narrowest, _READABLE) for header in long}
    widths = (_width(c) if c.no_wrap else min(_width(c), least.get(str(c.header), narrowest)) for c in columns)
    return sum(widths) + _GAP * (len(columns) - 1)


def _width(column: Column) -> int:
    lines = [line for cell in (column.header, *column.cells) for line in str(cell).splitlines()]
    return max(map(cell_len, lines), default=0)
