"""Prune: forget entries by age since last use and by size, compact packs that are mostly dead, delete in two phases.

No reader ever meets a missing pack: an object that nothing refers to is first only noted in the head (`retired`, with
the store's own time), and deleted by a later prune when the grace period has passed since. Whoever read an older head
has that long to finish; whoever is uploading has longer than a push may take. Objects of killed pushes go the same way.
Objects that are none of ours are left alone, and said.

Nothing is decided on what could not be read. A current state that is not whole is refused (`accept_loss`: what is unreadable
is given up, and the old state stays in the history); as long as an earlier state is not, nothing is dropped or deleted.
"""

from __future__ import annotations

import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, compress
from operator import ne
from pathlib import Path
from typing import TypeVar

from imagetiers.ccache.format.head import NamespaceState, SegmentRef, is_object_name
from imagetiers.ccache.format.index import SEGMENT_ENTRIES, Entry, Rows, as_rows, packs_in
from imagetiers.ccache.format.merge import Live, View, carry_uses, each_used
from imagetiers.ccache.format.pack import Codec, PackRef
from imagetiers.ccache.local import sweep
from imagetiers.ccache.namespace import Loaded, Namespace, Next, describe, unreadable
from imagetiers.ccache.push import PUSH_MAX_SECONDS, late
from imagetiers.ccache.rewrite import rewrite
from imagetiers.errors import CorruptError, NotFoundError
from imagetiers.parallel import map_parallel
from imagetiers.stores.counting import CountingStore
from imagetiers.stores.port import Store

__all__ = ["GRACE_MIN", "PruneOptions", "PruneResult", "prune"]

GRACE_MIN = 2 * PUSH_MAX_SECONDS
"""The shortest grace period in seconds: an object in an unfinished push must never be deleted."""

_FOREIGN_SHOWN = 5
_THREADS = 8
_CLOCK_SLACK = 300.0
_TEMPORARY = "imagetiers-prune-"
_COMPACT_ENTRIES = 250_000
"""Most entries that one prune moves; a moved one is held as a value, of a kilobyte. The next prune moves the others."""

_Column = TypeVar("_Column", bytes, "array[int]")


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """`max_age` seconds since last use, `max_bytes` stored (least recently used go first); None = no limit.

    A pack of which less than `live_share` is live is rewritten. `keep_history` states stay for rollback, and so does
    what they refer to. `grace` seconds pass between retiring an object and deleting it.
    """

    max_age: float | None = None
    max_bytes: int | None = None
    live_share: float = 0.5
    keep_history: int = 3
    grace: float = 86_400.0


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What a prune did (or, dry, would do). Sizes in bytes; `deleted_bytes` is what the store holds less now.

    `given_up` says what of the state was unreadable and is no longer listed, `blocked` what of earlier states is unreadable,
    so that nothing was dropped or deleted; `foreign` names objects that are none of ours.
    """

    dry_run: bool
    entries: int
    dropped: int
    dropped_bytes: int
    compacted: int
    retired: int
    deleted: int
    deleted_bytes: int
    sequence: int
    requests: int
    seconds: float
    given_up: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in one line, and in one each what was out of the ordinary."""
        would = "would be " if self.dry_run else ""
        line = (
            f"{self.dropped} entries {would}dropped ({self.dropped_bytes} bytes), {self.entries} kept; "
            f"{self.compacted} packs {would}compacted; {self.retired} objects {would}retired, "
            f"{self.deleted} {would}deleted ({self.deleted_bytes} bytes); "
            f"{self.requests} requests, {self.seconds:.1f} s"
        )
        lines = [line]
        lines += [f"given up, for it cannot be read: {name}" for name in self.given_up]
        lines += [f"nothing dropped or deleted, for an earlier state cannot be read: {name}" for name in self.blocked]
        lines += [f"left alone, for it is none of ours: {name!a}" for name in self.foreign[:_FOREIGN_SHOWN]]
        if len(self.foreign) > _FOREIGN_SHOWN:
            lines.append(f"and {len(self.foreign) - _FOREIGN_SHOWN} more that are none of ours")
        return "\n  ".join(lines)


@dataclass(slots=True)
class _Share:
    """What of a pack is live: entries, and their share of its bytes. A `bare` one is a single entry."""

    entries: int = 0
    bytes: int = 0
    bare: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What should become of a namespace as it was read.

    `rows` are its segments' with every entry's last use; `stays` says of each row, with a 1 or 0, whether it is an entry that
    is kept; `packs` are those in which these lie.
    """

    rows: tuple[Rows, ...]
    stays: tuple[bytes, ...]
    packs: frozenset[PackRef]
    dropped: int
    dropped_bytes: int
    compact: frozenset[PackRef]
    history: tuple[NamespaceState, ...]
    referred: frozenset[str]
    blocked: tuple[str, ...]
    rewrite: bool

    @property
    def kept(self) -> int:
        """How many entries are kept."""
        return sum(some.count(1) for some in self.stays)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries that are kept, each with its last use."""
        return chain.from_iterable(map(compress, self.rows, self.stays))


@dataclass(frozen=True, slots=True)
class _Objects:
    """The objects that are on their way out (name and since when), and those that are to be deleted now."""

    retired: Mapping[str, float]
    delete: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Situation:
    """What a prune works with: its options, the time (Unix s), all own objects' sizes by name, and foreign objects."""

    options: PruneOptions
    now: float
    sizes: Mapping[str, int]
    foreign: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What the states of the history refer to: each one's packs, and what cannot be read."""

    packs: Sequence[frozenset[str]]
    blocked: tuple[str, ...]


def prune(
    store: Store,
    namespace: str,
    options: PruneOptions | None = None,
    *,
    dry_run: bool = False,
    accept_loss: bool = False,
    clock: Callable[[], float] | None = None,
) -> PruneResult:
    """Prune a namespace. `clock` stands in for the store's own time (Unix s).

    Raises CorruptError when the current state cannot be read whole (unless `accept_loss`), StoreError, ValueError.
    """
    chosen = options or PruneOptions()
    if chosen.grace < GRACE_MIN:
        raise ValueError(f"a grace period of {chosen.grace} s is shorter than the {GRACE_MIN:.0f} s that pushes need")
    started = time.monotonic()
    counting = CountingStore(store)
    sweep(_TEMPORARY)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, ignore_cleanup_errors=True) as folder:
        space = Namespace(counting, namespace, Path(folder))
        loaded = space.load()
        if loaded.lost and not accept_loss:
            raise unreadable(loaded, loaded.lost)
        given_up = loaded.lost
        now = clock() if clock else space.now() if dry_run else _store_time(space)
        here = _situation(space, chosen, now)
        plan = _plan(space, loaded, here)
        if dry_run or not loaded.generation:
            objects = _objects(space, loaded, plan, here, _packs_of(plan))
        else:
            entries = [entry for entry in plan.entries() if entry.pack in plan.compact] if plan.compact else []
            moved = rewrite(space, entries)
            turn = _Turn(space, loaded, plan, moved, here)
            loaded = space.commit(loaded, turn.change, accept_loss=accept_loss)
            plan, objects = turn.plan, turn.objects
            _delete(space, objects.delete)
    return PruneResult(
        dry_run,
        plan.kept,
        plan.dropped,
        plan.dropped_bytes,
        len(plan.compact),
        len(objects.retired),
        len(objects.delete),
        sum(here.sizes[name] for name in objects.delete),
        loaded.view.head.state.sequence,
        counting.requests,
        time.monotonic() - started,
        given_up,
        plan.blocked,
        here.foreign,
    )


def _store_time(space: Namespace) -> float:
    """Ask the store for the time by writing an object: machines' clocks differ, and a deletion must not trust them."""
    name = space.object("clock")
    space.store.write(name, b"now")
    blob = space.store.stat(name)
    return blob.updated if blob else space.now()


def _situation(space: Namespace, options: PruneOptions, now: float) -> _Situation:
    sizes: dict[str, int] = {}
    foreign: list[str] = []
    for name, blob in space.listing().items():
        if is_object_name(name):
            sizes[name] = blob.size
        elif name not in {"head", "clock"}:
            foreign.append(name)
    return _Situation(options, now, sizes, tuple(foreign))


def _plan(space: Namespace, loaded: Loaded, here: _Situation) -> _Plan:
    options, head, live = here.options, loaded.view.head, loaded.view.live
    rows = tuple(map(as_rows, loaded.view.rows))
    newest = int((here.now + _CLOCK_SLACK) * 1e9)  # what claims to be used later than that has a wrong clock
    latest = array("q", (min(mtime, newest) for some in rows for mtime in some.mtimes))
    earlier = _earlier(space, loaded.view, latest, newest)
    for use in head.state.uses.values():
        _note_use(latest, live, each_used(head.state, loaded.view.rows, [use]), min(int(use.at * 1e9), newest))
    limits = options if not earlier.blocked else replace(options, max_age=None, max_bytes=None)
    stored = array("Q", chain.from_iterable(some.stored for some in rows))
    marks, dropped, dropped_bytes = _choose(live, latest, stored, limits, here.now)
    stays = tuple(_cut(bytes(marks), rows))
    used = any(compress(map(ne, latest, chain.from_iterable(some.mtimes for some in rows)), marks))
    kept = tuple(some.used(last) for some, last in zip(rows, _cut(latest, rows), strict=True))
    share = _share(kept, stays, stored)
    compact = _mostly_dead(share, options.live_share)
    # A state that holds the same entries as the next one is no use to go back to, and would keep dead packs alive.
    # Nor is one that is older than all that is kept: a branch that is dead would keep it for ever.
    oldest = here.now - limits.max_age if limits.max_age is not None else 0.0
    young = [(state, pack) for state, pack in zip(head.history, earlier.packs, strict=True) if state.written >= oldest]
    states, packs = [state for state, _ in young], [pack for _, pack in young]
    if dropped or loaded.lost:
        states.append(replace(head.state, written=here.now))  # its age as an earlier state begins
        packs.append(frozenset(f"packs/{pack.name}" for rows in loaded.view.rows for pack in packs_in(rows)))
    keep = max(options.keep_history, 1 if loaded.lost else 0)
    states, packs = (states[-keep:], packs[-keep:]) if keep else ([], [])
    referred = frozenset().union(*packs, *map(_parts, states))
    few = -(-marks.count(1) // SEGMENT_ENTRIES)
    rewrite = bool(dropped or compact or loaded.lost or used or len(head.state.segments) > few)
    blocked = (*earlier.blocked, *loaded.lost)
    held = frozenset(share)
    return _Plan(kept, stays, held, dropped, dropped_bytes, compact, tuple(states), referred, blocked, rewrite)


def _cut(column: _Column, rows: Iterable[Rows]) -> Iterator[_Column]:
    """Cut a column of all rows into the segments' own."""
    at = 0
    for some in rows:
        yield column[at : at + len(some)]
        at += len(some)


def _share(rows: Sequence[Rows], stays: Sequence[bytes], stored: array[int]) -> dict[PackRef, _Share]:
    """Add up what stays of each pack."""
    share: dict[PackRef, _Share] = {}
    for some, marks, sizes in zip(rows, stays, _cut(stored, rows), strict=True):
        totals = [_Share() for _ in some.places]
        for place, size in compress(zip(some.numbers, sizes, strict=True), marks):
            total = totals[place]
            total.entries += 1
            total.bytes += size
        for (pack, section), total in zip(some.places, totals, strict=True):
            if total.entries:
                whole = share.setdefault(pack, _Share(bare=section.codec is Codec.BARE))
                whole.entries += total.entries
                whole.bytes += total.bytes
    return share


def _mostly_dead(share: Mapping[PackRef, _Share], live_share: float) -> frozenset[PackRef]:
    """Choose the packs to be written anew, the emptiest first: as many as one prune has memory for."""
    few = [pack for pack, live in share.items() if live.bytes < live_share * pack.size and not live.bare]
    few.sort(key=lambda pack: (share[pack].bytes / pack.size, pack.name))
    entries = accumulate(share[pack].entries for pack in few)
    return frozenset(pack for pack, so_far in zip(few, entries, strict=True) if so_far <= _COMPACT_ENTRIES)


def _parts(state: NamespaceState) -> frozenset[str]:
    """Return the objects besides packs that a state refers to."""
    names = {f"index/{ref.object.name}" for ref in state.segments}
    return frozenset(names | {f"sets/{state.sets.name}"} if state.sets else names)


def _earlier(space: Namespace, view: View, latest: array[int], newest: int) -> _Earlier:
    """Read the history state by state, one at a time: each may be as large as the current one. Notes the uses in `latest`."""
    head = view.head
    packs: list[frozenset[str]] = []
    blocked: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for bare in head.history:
        lost: list[str] = []
        rows = _rows_of(space, bare, view, lost)
        state = bare
        try:
            state = space.with_uses(bare)
        except (CorruptError, NotFoundError) as error:
            lost.append(describe(error))
        packs.append(frozenset(f"packs/{pack.name}" for some in rows for pack in packs_in(some)))
        segments = tuple(ref.object.name for ref in state.segments)
        for use in state.uses.values():
            if (*segments, use.bits, str(use.at)) not in seen:
                seen.add((*segments, use.bits, str(use.at)))
                _note_use(latest, view.live, each_used(state, rows, [use]), min(int(use.at * 1e9), newest))
        blocked += lost
    return _Earlier(packs, tuple(blocked))


def _rows_of(space: Namespace, state: NamespaceState, view: View, lost: list[str]) -> tuple[Sequence[Entry], ...]:
    """Return an earlier state's rows; a segment that the current state has, too, is not held twice."""
    current = zip(view.head.state.segments, view.rows, strict=True)
    known = {ref.object.name: some for ref, some in current if len(some) == ref.entries}
    others = tuple(ref for ref in state.segments if ref.object.name not in known)
    read = iter(space.rows(replace(state, segments=others), lost))
    names = (ref.object.name for ref in state.segments)
    return tuple(known[name] if name in known else next(read) for name in names)


def _note_use(latest: array[int], live: Live, names: Iterable[str], at: int) -> None:
    """Note in `latest` that these entries, where they are still listed, were used at that time (Unix ns)."""
    for number in map(live.number, names):
        if number is not None and latest[number] < at:
            latest[number] = at


def _choose(
    live: Live, latest: array[int], stored: array[int], options: PruneOptions, now: float
) -> tuple[bytearray, int, int]:
    """Mark by number the entries that stay; return also how many go, and the stored bytes of these."""
    stays = bytearray(len(latest))
    order: Iterable[int] = array("L", (number for _, number in live.numbers()))
    if options.max_bytes is not None:
        order = sorted(order, key=latest.__getitem__, reverse=True)
    dropped = dropped_bytes = held = 0
    oldest = None if options.max_age is None else int((now - options.max_age) * 1e9)
    for number in order:
        held += stored[number]
        too_old = oldest is not None and latest[number] < oldest
        if too_old or (options.max_bytes is not None and held > options.max_bytes):
            dropped, dropped_bytes = dropped + 1, dropped_bytes + stored[number]
        else:
            stays[number] = 1
    return stays, dropped, dropped_bytes


@dataclass
class _Turn:
    """One prune's change of the head; computed anew after every lost race."""

    space: Namespace
    loaded: Loaded
    plan: _Plan
    moved: Mapping[str, Entry]
    here: _Situation
    objects: _Objects = field(default_factory=lambda: _Objects({}, ()))

    def change(self, current: Loaded) -> Next:
        """Compute the state after this prune."""
        if current is not self.loaded:
            self.plan = _plan(self.space, current, self.here)
            self.loaded = current
        following = self._next(current)
        if self.moved and late(list(self.moved.values()), following.state, current, self.space.listing()):
            # What took too long may meanwhile be noted as left behind, as in a push: then nothing is moved.
            self.moved = {}
            following = self._next(current)
        return following

    def _next(self, current: Loaded) -> Next:
        view, plan = current.view, self.plan
        refs: tuple[SegmentRef, ...] = view.head.state.segments
        rows: tuple[Sequence[Entry], ...] = view.rows
        if plan.rewrite:
            entries = (_moved(entry, self.moved) if entry.pack in plan.compact else entry for entry in plan.entries())
            refs, rows = self.space.write_segments(entries)
        uses = carry_uses(view, refs, rows)
        referred = {f"packs/{pack.name}" for some in rows for pack in packs_in(some)}
        referred |= {f"index/{ref.object.name}" for ref in refs}
        self.objects = _objects(self.space, current, plan, self.here, referred)
        state = NamespaceState(0, self.here.now, "", "prune", refs, uses)
        return Next(state, rows, self.objects.retired, plan.history)


def _moved(entry: Entry, moved: Mapping[str, Entry]) -> Entry:
    """Return where the entry lies now; one that somebody replaced since it was moved stays where it is."""
    found = moved.get(entry.name)
    return found if found is not None and found.slot.content == entry.slot.content else entry


def _packs_of(plan: _Plan) -> set[str]:
    return {f"packs/{pack.name}" for pack in plan.packs - plan.compact}


def _objects(space: Namespace, current: Loaded, plan: _Plan, here: _Situation, referred: AbstractSet[str]) -> _Objects:
    """Sort what nothing refers to into what is noted only and what has been noted for longer than the grace period.

    The sets and notes of the head before are still referred to while the new head is made: they are noted next time.
    """
    head = current.view.head
    referred = referred | plan.referred
    referred |= {f"sets/{head.state.sets.name}"} if head.state.sets else frozenset()
    referred |= {f"notes/{head.notes.name}"} if head.notes else frozenset()
    before = space.retired(head)
    loose = {name: before.get(name, here.now) for name in here.sizes if name not in referred}
    old = (name for name in loose if name in before and here.now - before[name] > here.options.grace)
    delete = () if plan.blocked else tuple(old)
    gone = set(delete)
    return _Objects({name: since for name, since in loose.items() if name not in gone}, delete)


def _delete(space: Namespace, names: Sequence[str]) -> None:
    """Delete objects that the head neither refers to nor notes any more; what stays is found again next time."""
    map_parallel(lambda name: space.store.delete(space.object(name)), names, _THREADS)
