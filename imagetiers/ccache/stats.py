"""Stats: what a namespace holds and what of the stored bytes is dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.format.head import Use
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.pack import Codec, PackRef
from imagetiers.ccache.namespace import Namespace
from imagetiers.stores.port import Store

__all__ = ["StatsResult", "stats", "stored_bytes"]


@dataclass(frozen=True, slots=True)
class StatsResult:
    """A namespace in numbers; sizes in bytes, times in Unix seconds.

    `entry_bytes` is what the live entries take as files, `live_bytes` what they take in packs, `pack_bytes` all packs
    that are referred to, `other_bytes` objects that the current state does not refer to (history, leftovers).
    `history` are the states that a rollback can go back to: (sequence, written, reason, entries that they list).
    """

    namespace: str
    sequence: int
    written: float
    reason: str
    results: int
    manifests: int
    entry_bytes: int
    live_bytes: int
    packs: int
    pack_bytes: int
    segments: int
    other_objects: int
    other_bytes: int
    retired: int
    uses: Mapping[tuple[str, str], Use]
    history: tuple[tuple[int, float, str, int], ...]
    lost: tuple[str, ...]


def stats(store: Store, namespace: str) -> StatsResult:
    """Read a namespace's head and index and list its objects. Raises StoreError."""
    space = Namespace(store, namespace)
    loaded = space.load()
    head, live = loaded.view.head, loaded.view.live
    packs: set[PackRef] = set()
    manifests = entry_bytes = live_bytes = 0
    for entry in live.values():
        packs.add(entry.pack)
        manifests += entry.kind is Kind.MANIFEST
        entry_bytes += entry.slot.size
        live_bytes += stored_bytes(entry)
    current = {"head", "clock"} | {f"packs/{pack.name}" for pack in packs}
    current |= {f"index/{ref.object.name}" for ref in head.state.segments}
    current |= {f"sets/{state.sets.name}" for state in (head.state, *head.history) if state.sets}
    current |= {f"notes/{head.notes.name}"} if head.notes else set()
    others = [blob for name, blob in space.listing().items() if name not in current]
    return StatsResult(
        namespace,
        head.state.sequence,
        head.state.written,
        head.state.reason,
        len(live) - manifests,
        manifests,
        entry_bytes,
        live_bytes,
        len(packs),
        sum(pack.size for pack in packs),
        len(head.state.segments),
        len(others),
        sum(blob.size for blob in others),
        len(space.retired(head)),
        head.state.uses,
        tuple((state.sequence, state.written, state.reason, state.entries) for state in head.history),
        loaded.lost,
    )


def stored_bytes(entry: Entry) -> int:
    """Return the entry's share of its section's stored bytes."""
    section = entry.section
    if section.codec is not Codec.ZSTD:
        return entry.slot.length
    return max(1, section.stored * entry.slot.length // section.raw)
