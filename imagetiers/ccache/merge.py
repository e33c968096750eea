"""What a namespace holds at one moment (the view), and how two writers' changes become one.

Results: the key is the identity, so the first one wins. Manifests: ccache rewrites them and stamps each rewrite with a
new creation time in seconds, so the later one wins, within a second the larger one (they only grow), and then the one
with the greater content id, so that all writers agree whatever their order. What the loser alone knew costs a
preprocessor-mode hit, not a compile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from imagetiers.ccache.entry import Kind
from imagetiers.ccache.head import Head, SegmentRef, Use, decode_bits, encode_bits
from imagetiers.ccache.index import Entry

__all__ = ["View", "carry_uses", "fold", "make_use", "supersedes", "unite", "version_of"]


@dataclass(frozen=True)
class View:
    """A head with its decoded segments; `rows` has one list for each segment of `head.state`, in its order.

    The list of a segment that could not be read is empty: what it lists counts as not there.
    """

    head: Head = field(default_factory=Head)
    rows: tuple[Sequence[Entry], ...] = ()

    @cached_property
    def live(self) -> dict[str, Entry]:
        """Every entry by name; a later segment's replaces an earlier one's."""
        return {entry.name: entry for rows in self.rows for entry in rows}

    def names(self, use: Use) -> set[str]:
        """Return the names of a use's entries. Raises CorruptError."""
        segments = self.head.state.segments
        members = decode_bits(use.bits, sum(segment.entries for segment in segments))
        names: set[str] = set()
        at = 0
        for segment, rows in zip(segments, self.rows, strict=True):
            names.update(entry.name for entry, member in zip(rows, members[at:], strict=False) if member)
            at += segment.entries
        return names

    def working_set(self, step: str | None) -> set[str] | None:
        """Return what the last good run of `step`, the good one before it and a later unfinished one used.

        None when no run is known. The one before, because changes are reverted and branches alternate: what only it
        used is still stored, but an entry that is not restored is a miss.

        Without a step, or for a step that never ran here, all steps' working sets.
        """
        uses = self.head.state.uses
        steps = {step} if step is not None and any(s == step for s, _ in uses) else {s for s, _ in uses}
        chosen = [self.names(use) for (s, _), use in uses.items() if s in steps]
        return set().union(*chosen) if chosen else None


Version = tuple[int, int, bytes]
"""What orders a manifest's versions: creation time (Unix seconds), file size (manifests grow), content id."""


def version_of(entry: Entry) -> Version:
    """Return the version of an entry that an index lists."""
    return (entry.slot.created, entry.slot.size, entry.slot.content)


def supersedes(kind: Kind, version: Version, old: Version | None) -> bool:
    """Say whether an entry of this version should take the place of `old` (None = there is none)."""
    return old is None or (kind is Kind.MANIFEST and version[-1] != old[-1] and version > old)


def unite(own: Iterable[Entry], live: Mapping[str, Entry]) -> list[Entry]:
    """Return those of a writer's own entries that are still worth adding to what is there by now."""
    return [e for e in own if e.name not in live or supersedes(e.kind, version_of(e), version_of(live[e.name]))]


def fold(view: View, own: Sequence[Entry]) -> tuple[tuple[SegmentRef, ...], tuple[Sequence[Entry], ...], list[Entry]]:
    """Decide which of the newest segments the new one takes in: those not more than twice as large as it has become.

    So a segment is always more than twice as large as all later ones together, their number stays logarithmic, and each
    entry is rewritten a few times at most. Returns the segments that stay, their rows, and the new segment's entries.
    """
    kept = [(ref, some) for ref, some in zip(view.head.state.segments, view.rows, strict=True) if some]
    refs, rows = [ref for ref, _ in kept], [some for _, some in kept]
    taken = {entry.name: entry for entry in own}
    while rows and len(rows[-1]) <= 2 * len(taken):
        refs.pop()
        taken = {entry.name: entry for entry in rows.pop()} | taken
    return tuple(refs), tuple(rows), list(taken.values())


def make_use(rows: Sequence[Sequence[Entry]], names: Iterable[str], at: float, like: Use | None = None) -> Use:
    """Make a use of `names` over these rows; the newest row of a name stands for it."""
    wanted = set(names)
    flat = [entry for some in rows for entry in some]
    newest = {entry.name: number for number, entry in enumerate(flat) if entry.name in wanted}
    chosen = set(newest.values())
    bits = encode_bits([number in chosen for number in range(len(flat))])
    size = sum(flat[number].slot.size for number in chosen)
    return Use(at, len(chosen), size, bits, like.fingerprint if like is not None else None)


def carry_uses(view: View, rows: Sequence[Sequence[Entry]]) -> dict[tuple[str, str], Use]:
    """Rewrite a view's uses for other rows (a fold or a compaction changed them)."""
    return {key: make_use(rows, view.names(use), use.at, use) for key, use in view.head.state.uses.items()}


def with_last_use(view: View, earlier: Iterable[View]) -> list[Entry]:
    """Return all live entries with the latest time that anything in the head says they were used."""
    latest = {name: entry.slot.mtime for name, entry in view.live.items()}
    for one in (view, *earlier):
        for use in one.head.state.uses.values():
            at = int(use.at * 1e9)
            for name in one.names(use):
                if latest.get(name, at) < at:
                    latest[name] = at
    return [
        entry if latest[name] == entry.slot.mtime else replace(entry, slot=replace(entry.slot, mtime=latest[name]))
        for name, entry in view.live.items()
    ]
