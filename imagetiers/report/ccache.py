"""What the compiler cache holds, as tables. Pure; sizes in bytes, times in Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from imagetiers.ccache.entries import ListedEntry
from imagetiers.report.amounts import age_text, size_text
from imagetiers.report.fitted import Fitted

__all__ = ["NamespaceRow", "entries_table", "namespaces_table"]


@dataclass(frozen=True, slots=True)
class NamespaceRow:
    """A namespace as a listing of its objects has it: whose it is, its bytes, when it was written last."""

    name: str
    whose: str
    bytes: int
    written: float


def namespaces_table(rows: Iterable[NamespaceRow], now: float) -> Fitted:
    """Return namespaces, a line each."""
    table = _table("compiler cache")
    for column in ("namespace", "written by", "bytes", "written"):
        table.add_column(column, justify="right" if column in {"bytes", "written"} else "left", no_wrap=True)
    for row in rows:
        table.add_row(row.name, row.whose, size_text(row.bytes), f"{age_text(now - row.written)} ago")
    return Fitted(table, ("written by", "written", "bytes"), whole_lines=True)


def entries_table(namespace: str, entries: Iterable[ListedEntry], now: float) -> Fitted:
    """Return entries of a namespace, a line each."""
    table = _table(namespace)
    right = {"size", "in its pack", "last used", "made"}
    for column in ("entry", "type", "size", "in its pack", "last used", "made", "working sets of"):
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for entry in entries:
        table.add_row(
            entry.name,
            entry.kind,
            size_text(entry.size),
            size_text(entry.stored),
            f"{age_text(now - entry.used)} ago",
            f"{age_text(now - entry.created)} ago",
            sets_text(entry),
        )
    return Fitted(table, ("made", "in its pack", "working sets of", "type", "size", "last used"), whole_lines=True)


def sets_text(entry: ListedEntry) -> str:
    """Say in which runs' working sets an entry is: `libs good, libs before`."""
    return ", ".join(f"{step} {outcome}" for step, outcome in entry.sets)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
