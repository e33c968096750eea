"""What of ccache's namespaces `cache:gc` looks after: those of no pipeline here, such as a pipeline that was renamed.

`ccache:prune` keeps this pipeline's own in order; to another name nobody ever comes back. Whether a pipeline was renamed
or lives in another repository cannot be told, so only age decides: a namespace counts as used when its head is written,
which every build with a compile does. Nothing of it is read.

The head goes first, in the generation that was marked, then what is older than this run: a push that is at work either has
written the head meanwhile, and then all stays, or finds it gone and stores its packs again.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

from imagetiers.ccache.listing import StoredNamespace, stored_namespaces
from imagetiers.ccache.namespace import is_namespace
from imagetiers.errors import PreconditionError
from imagetiers.planning.housekeeping import Item, Limits, Mark, Sweep, plan_sweep
from imagetiers.report.amounts import age_text, size_text
from imagetiers.stores.port import Blob, Store

__all__ = ["listed", "plan_abandoned", "remove_namespace"]

_KIND = "ccache of other pipelines"
_MOST = 10_000
"""Most of them that one run decides on: those that were written longest ago."""

_SHOWN = 20
_THREADS = 8
_BATCH = 1_000


def plan_abandoned(  # noqa: PLR0917  one value each
    store: Store,
    pipelines: Collection[str],
    marks: Mapping[str, Mark],
    max_age: float,
    now: float,
    grace: float,
) -> Sweep:
    """Decide what becomes of the namespaces of other pipelines than these. Raises StoreError."""
    others = (
        found
        for found in stored_namespaces(store)
        if is_namespace(found.name) and not any(f".{name}." in found.name for name in pipelines)
    )
    oldest: list[StoredNamespace] = heapq.nsmallest(_MOST, others, key=lambda found: found.written)
    items = [Item(found.prefix, _KIND, found.size, found.written, found.generation) for found in oldest]
    return plan_sweep(items, (), marks, {_KIND: Limits(max_age)}, now, grace)


def remove_namespace(store: Store, item: Item, before: float) -> bool:
    """Remove what of a namespace was written before that time, unless its head is another by now; say whether it was.

    Raises StoreError.
    """
    head = f"{item.name}head"
    try:
        if item.generation:
            store.delete(head, if_generation=item.generation)
        elif store.stat(head) is not None:
            return False
    except PreconditionError:
        return False
    old = (blob for blob in store.list(item.name) if blob.name != head and blob.updated <= before)
    with ThreadPoolExecutor(_THREADS, "cache-gc") as pool:
        while some := list(islice(old, _BATCH)):
            list(pool.map(partial(_remove, store), some))
    return True


def _remove(store: Store, blob: Blob) -> None:
    with contextlib.suppress(PreconditionError):
        store.delete(blob.name, if_generation=blob.generation)


def listed(sweep: Sweep, now: float, *, dry_run: bool) -> Iterator[str]:
    """Say of each namespace that goes when it was written last."""
    would = "would be " if dry_run else ""
    told = [*_told(sweep.marked, f"{would}marked", now), *_told(sweep.delete, f"{would}removed", now)]
    yield from told[:_SHOWN]
    if len(told) > _SHOWN:
        yield f"    and {len(told) - _SHOWN} more"


def _told(items: Iterable[Item], what: str, now: float) -> Iterator[str]:
    for item in items:
        yield f"    {item.name[:-1]}: {size_text(item.size)}, last written {age_text(now - item.used)} ago: {what}"
