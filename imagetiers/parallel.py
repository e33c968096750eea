"""The same work on many things at once, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_parallel"]

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")


def map_parallel(work: Callable[[_Thing], _Result], things: Iterable[_Thing], threads: int) -> list[_Result]:
    """Return what `work` returns for each thing, in their order. The first exception is raised once all have ended."""
    listed = list(things)
    if len(listed) <= 1:
        return [work(thing) for thing in listed]
    with ThreadPoolExecutor(min(threads, len(listed)), "imagetiers") as pool:
        return list(pool.map(work, listed))
