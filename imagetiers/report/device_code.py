"""What the libraries of an image hold for GPUs, as lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from imagetiers.config.gpus import GPUS, fit
from imagetiers.planning.device_code import DeviceLibrary, DevicePromise, made_by_others
from imagetiers.report.gpus import fits_text

__all__ = ["device_lines"]


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
