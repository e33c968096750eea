"""Which namespaces a store holds, from their objects' names alone: nothing of a namespace is read for it.

Whoever may write one namespace may write as many as they like, so callers keep as many as they have room for.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from imagetiers.stores.port import Blob, Store

__all__ = ["StoredNamespace", "draw", "stored_namespaces"]

_ROOT = "ccache/"
_random = random.Random()  # noqa: S311  no secret
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class StoredNamespace:
    """What a listing says of a namespace: when its head was written last (without one: any object), in Unix s; its bytes.

    `generation` is the head's, 0 where there is none.
    """

    name: str
    written: float
    size: int
    generation: int

    @property
    def prefix(self) -> str:
        """What the names of its objects begin with."""
        return f"{_ROOT}{self.name}/"


def stored_namespaces(store: Store, only: str = "") -> Iterator[StoredNamespace]:
    """Yield all namespaces, or the one of that name, in order of name. Raises StoreError."""
    listed = store.list(f"{_ROOT}{only}/" if only else _ROOT)
    inside = (blob for blob in listed if blob.name.count("/") > 1)
    for name, blobs in groupby(inside, key=lambda blob: blob.name.split("/", 2)[1]):
        yield _summed(name, blobs)


def _summed(name: str, blobs: Iterable[Blob]) -> StoredNamespace:
    head, newest, size = None, 0.0, 0
    for blob in blobs:
        head = blob if blob.name == f"{_ROOT}{name}/head" else head
        newest, size = max(newest, blob.updated), size + blob.size
    return StoredNamespace(name, head.updated if head else newest, size, head.generation if head else 0)


def draw(items: Iterable[_Item], most: int) -> tuple[list[_Item], int]:
    """Return at most so many items, each with the same chance, in their order, and how many there are.

    So in many runs each has its turn, whatever else is there.
    """
    chosen: list[tuple[int, _Item]] = []
    count = 0
    for count, item in enumerate(items, 1):
        if len(chosen) < most:
            chosen.append((count, item))
        elif (place := _random.randrange(count)) < most:
            chosen[place] = (count, item)
    return [item for _, item in sorted(chosen, key=lambda pair: pair[0])], count
