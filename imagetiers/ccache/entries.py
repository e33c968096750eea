"""The entries of a namespace for people: some of them in an order, or one with what it holds. Nothing is changed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from imagetiers.ccache.download import Wanted, extents_of, fetch, fetched_size
from imagetiers.ccache.format.entry import HEADER_MAX, Header, Kind, parse_header
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.manifest import ManifestResult, read_manifest
from imagetiers.ccache.format.merge import View, each_used
from imagetiers.ccache.format.pack import Codec, PackRef
from imagetiers.ccache.format.result import ResultFile, read_result
from imagetiers.ccache.namespace import Namespace
from imagetiers.ccache.stats import stored_bytes
from imagetiers.ccache.unpack import restored
from imagetiers.errors import CorruptError
from imagetiers.stores.port import Store

__all__ = ["EntryContent", "EntryPage", "ListedEntry", "Order", "find_entries", "list_entries", "read_content"]


class Order(StrEnum):
    """What entries are ordered by: the latest, or the largest, first; names from the first on."""

    USED = "used"
    CREATED = "created"
    SIZE = "size"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class ListedEntry:
    """An entry as the index has it. `size` bytes as a file, `stored` in its pack; times in Unix seconds.

    `sets` are the working sets that it is in: (compile step, outcome of the run).
    """

    name: str
    kind: str
    size: int
    stored: int
    created: float
    used: float
    pack: str
    sets: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EntryPage:
    """The first entries of a namespace in an order, and how many there are. `lost`: what of the index cannot be read."""

    entries: tuple[ListedEntry, ...]
    total: int
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EntryContent:
    """What an entry says itself: its header, and a manifest's results (the newest last), or a result's files.

    `not_read` says why there is neither.
    """

    header: Header
    results: tuple[ManifestResult, ...] = ()
    files: tuple[ResultFile, ...] = ()
    not_read: str = ""


def list_entries(store: Store, namespace: str, order: Order, most: int) -> EntryPage:
    """Return at most so many entries of a namespace. Raises StoreError."""
    loaded = Namespace(store, namespace).load()
    live = loaded.view.live
    chosen = _first(live.values(), order, most)
    return EntryPage(tuple(_listed(loaded.view, chosen)), len(live), loaded.lost)


def find_entries(store: Store, namespace: str, prefix: str, most: int) -> tuple[list[tuple[ListedEntry, Entry]], View]:
    """Return at most so many entries whose names begin so, and the view that they are in. Raises StoreError."""
    view = Namespace(store, namespace).load().view
    names = heapq.nsmallest(most, (name for name in view.live if name.startswith(prefix)))
    found = [view.live[name] for name in names]
    return list(zip(_listed(view, found), found, strict=True)), view


def read_content(store: Store, namespace: str, entry: Entry) -> EntryContent:
    """Read an entry from its pack, checked as a pull checks it. Of one too large for a pack only the header.

    Raises StoreError, CorruptError where it is not what the index says.
    """
    space = Namespace(store, namespace)
    if entry.section.codec is Codec.BARE:
        data, _ = store.read(space.object("packs", entry.pack.name), length=HEADER_MAX)
        return EntryContent(parse_header(data, entry.name), not_read="it is too large to be looked into")
    wanted = [Wanted(entry, space, replace=False)]
    extents = extents_of(wanted)
    memory = memoryview(bytearray(fetched_size(entry.pack, extents)))
    fetched = fetch(space, entry.pack, extents, memory, lambda _: None)
    where = space.object("packs", entry.pack.name)
    ((_, found),) = restored(fetched.runs(wanted, entry.slot.mtime), memory, where)
    data = bytes(found)
    content = EntryContent(parse_header(data, entry.name))
    try:
        if entry.kind is Kind.MANIFEST:
            return replace(content, results=read_manifest(data))
        return replace(content, files=read_result(data))
    except CorruptError as error:  # a later ccache may write another format: the entry itself is intact
        return replace(content, not_read=error.problems[0].what)


def entries_of(view: View, pack: PackRef) -> int:
    """Return how many live entries lie in a pack."""
    return sum(entry.pack == pack for entry in view.live.values())


def _first(entries: Iterable[Entry], order: Order, most: int) -> list[Entry]:
    keys: dict[Order, Callable[[Entry], tuple[int, str]]] = {
        Order.USED: lambda entry: (-entry.slot.mtime, entry.name),
        Order.CREATED: lambda entry: (-entry.slot.created, entry.name),
        Order.SIZE: lambda entry: (-entry.slot.size, entry.name),
        Order.NAME: lambda entry: (0, entry.name),
    }
    return heapq.nsmallest(most, entries, key=keys[order])


def _listed(view: View, entries: Iterable[Entry]) -> list[ListedEntry]:
    chosen = list(entries)
    names = {entry.name for entry in chosen}
    sets: dict[str, list[tuple[str, str]]] = {}
    state = view.head.state
    for step, use in sorted(state.uses.items()) if names else ():
        for name in names.intersection(each_used(state, view.rows, [use])):
            sets.setdefault(name, []).append(step)
    return [
        ListedEntry(
            entry.name,
            entry.kind.name.lower(),
            entry.slot.size,
            stored_bytes(entry),
            float(entry.slot.created),
            entry.slot.mtime / 1e9,
            entry.pack.name,
            tuple(sets.get(entry.name, ())),
        )
        for entry in chosen
    ]
