"""What the libraries of an image hold for GPUs, as lines and as a table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.table import Table
from rich.text import Text

from imagetiers.config.gpus import GPUS, Fit, How, fit
from imagetiers.planning.device_code import DeviceLibrary, DevicePromise, made_by_others
from imagetiers.report.fitted import Fitted
from imagetiers.report.gpus import fits_text

__all__ = ["device_lines", "device_table"]

_SHOWN = 20  # libraries of a table; JSON has them all
_CELLS = {
    How.NATIVE: ("native", "green"),
    How.COMPATIBLE: ("", "green"),
    How.PTX: ("", "yellow"),
    How.NOT: ("no", "red"),
}


def device_table(tier: str, promised: DevicePromise, libraries: Iterable[DeviceLibrary]) -> Fitted:
    """Return a row a library and a column a GPU: how it runs it. Libraries that others have compiled come last."""
    table = Table(title=f"{tier}: device code", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.header_style = "dim"
    table.add_column("library", overflow="fold")
    for gpu in promised.gpus:
        table.add_column(f"{gpu} ({GPUS[gpu]})", no_wrap=True)
    found = [library for library in libraries if library.holds]
    ordered = sorted(found, key=lambda library: (made_by_others(library.path, promised.others), library.path))
    for library in ordered[:_SHOWN]:
        fits = (fit(GPUS[gpu], library.sass, library.ptx) for gpu in promised.gpus)
        others = " (by others)" if made_by_others(library.path, promised.others) else ""
        table.add_row(f"{library.path}{others}", *map(_cell, fits))
    if len(ordered) > _SHOWN:
        table.add_row(f"and {len(ordered) - _SHOWN:,} more: doit status --json FILE")
    return Fitted(table, tuple(f"{gpu} ({GPUS[gpu]})" for gpu in reversed(tuple(promised.gpus))))


def _cell(found: Fit) -> Text:
    text, style = _CELLS[found.how]
    if found.target is not None and not text:
        text = found.target.ptx if found.how is How.PTX else found.target.sass
    return Text(text, style=style)


def device_lines(promised: DevicePromise, libraries: Iterable[DeviceLibrary]) -> Iterator[str]:
    """Yield a line for each kind of library: how many hold the same code, which one is first, and how the GPUs run it."""
    alike: dict[tuple[bool, str], list[DeviceLibrary]] = {}
    for library in libraries:
        if library.holds:
            alike.setdefault((made_by_others(library.path, promised.others), library.holds), []).append(library)
    for (others, holds), found in sorted(alike.items(), key=lambda item: item[0]):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        hold, own = ("hold" if len(found) > 1 else "holds"), " (compiled by others)" if others else ""
        fits = {gpu: fit(GPUS[gpu], found[0].sass, found[0].ptx) for gpu in promised.gpus}
        yield f"{found[0].path}{more}{own} {hold} {holds}: {fits_text(fits)}"
