"""Prune: forget entries by age since last use and by size, compact packs that are mostly dead, delete in two phases.

No reader ever meets a missing pack: an object that nothing refers to is first only noted in the head (`retired`, with
the store's own time), and deleted by a later prune when the grace period has passed since. Whoever read an older head
has that long to finish; whoever is uploading has longer than a push may take. Objects of killed pushes go the same way.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from imagetiers.ccache.entry import Kind
from imagetiers.ccache.head import Head, SegmentRef, State
from imagetiers.ccache.index import Entry
from imagetiers.ccache.merge import View, carry_uses, with_last_use
from imagetiers.ccache.pack import (
    Codec,
    PackRef,
    Section,
    decode_section,
    encode_sections,
    parse_pack,
    restore_entry,
)
from imagetiers.errors import CorruptError, NotFoundError
from imagetiers.ports import Store
from imagetiers.steps.ccache_push import PUSH_MAX_SECONDS
from imagetiers.steps.ccache_space import Loaded, Next, Space
from imagetiers.steps.ccache_stats import stored_bytes, stored_share
from imagetiers.steps.ccache_upload import fill, packs_of
from imagetiers.steps.counting_store import CountingStore

__all__ = ["GRACE_MIN", "PruneOptions", "PruneResult", "prune"]

GRACE_MIN = 2 * PUSH_MAX_SECONDS
"""The shortest grace period in seconds: an object in an unfinished push must never be deleted."""

_SECTION_BYTES = 4 * 1024 * 1024


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
    """What a prune did (or, dry, would do). Sizes in bytes; `deleted_bytes` is what the store holds less now."""

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

    def __str__(self) -> str:
        """Say it in one line."""
        would = "would be " if self.dry_run else ""
        return (
            f"{self.dropped} entries {would}dropped ({self.dropped_bytes} bytes), {self.entries} kept; "
            f"{self.compacted} packs {would}compacted; {self.retired} objects {would}retired, "
            f"{self.deleted} {would}deleted ({self.deleted_bytes} bytes); "
            f"{self.requests} requests, {self.seconds:.1f} s"
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """What should become of a namespace as it was read."""

    kept: tuple[Entry, ...]
    dropped: tuple[Entry, ...]
    compact: tuple[PackRef, ...]
    history: tuple[State, ...]
    referred: frozenset[str]
    rewrite: bool


@dataclass(frozen=True, slots=True)
class _Objects:
    """The objects that are on their way out (name and since when), and those that are to be deleted now."""

    retired: Mapping[str, float]
    delete: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Situation:
    """What a prune works with: its options, the time (Unix s), and all objects' sizes by name."""

    options: PruneOptions
    now: float
    sizes: Mapping[str, int]


def prune(
    store: Store,
    namespace: str,
    options: PruneOptions | None = None,
    *,
    dry_run: bool = False,
    clock: Callable[[], float] | None = None,
) -> PruneResult:
    """Prune a namespace. `clock` stands in for the store's own time (Unix s). Raises StoreError, ValueError."""
    chosen = options or PruneOptions()
    if chosen.grace < GRACE_MIN:
        raise ValueError(f"a grace period of {chosen.grace} s is shorter than the {GRACE_MIN:.0f} s that pushes need")
    started = time.monotonic()
    counting = CountingStore(store)
    with tempfile.TemporaryDirectory(prefix="imagetiers-prune-", ignore_cleanup_errors=True) as folder:
        space = Space(counting, namespace, Path(folder))
        loaded = space.load()
        now = clock() if clock else time.time() if dry_run else _store_time(space)
        listed = [blob for part in ("packs", "index") for blob in counting.list(space.object(part) + "/")]
        by_name = {blob.name.removeprefix(space.object("")): blob.size for blob in listed}
        here = _Situation(chosen, now, by_name)
        plan = _plan(space, loaded, here)
        compacted: Mapping[str, Entry] = {}
        if dry_run or not loaded.generation:
            gone = {entry.pack for entry in plan.kept if entry.pack in set(plan.compact)}
            rows = tuple(entry for entry in plan.kept if entry.pack not in gone)
            objects = _objects(loaded, plan, here, rows)
        else:
            compacted = _compact(space, plan)

            def change(current: Loaded) -> Next:
                nonlocal plan, objects
                if current is not loaded:
                    plan = _plan(space, current, here)
                # What took too long may meanwhile be noted as left behind, as in a push: then nothing is moved.
                moved = compacted if time.monotonic() - started < PUSH_MAX_SECONDS else {}
                following, objects = _next(space, current, plan, moved, here)
                return following

            objects = _Objects({}, ())
            loaded = space.commit(loaded, change)
            _delete(space, objects.delete)
    return PruneResult(
        dry_run,
        len(plan.kept),
        len(plan.dropped),
        sum(map(stored_bytes, plan.dropped)),
        len(plan.compact),
        len(objects.retired),
        len(objects.delete),
        sum(by_name[name] for name in objects.delete),
        loaded.view.head.state.sequence,
        counting.requests,
        time.monotonic() - started,
    )


def _store_time(space: Space) -> float:
    """Ask the store for the time by writing an object: machines' clocks differ, and a deletion must not trust them."""
    name = space.object("clock")
    space.store.write(name, b"now")
    blob = space.store.stat(name)
    return blob.updated if blob else time.time()


def _plan(space: Space, loaded: Loaded, here: _Situation) -> _Plan:
    options = here.options
    head = loaded.view.head
    earlier = [View(Head(state), space.rows(state, [])) for state in head.history]
    entries = sorted(with_last_use(loaded.view, earlier), key=lambda e: (-e.slot.mtime, e.name))
    kept, dropped = _choose(entries, options, here.now)
    share = stored_share(kept)
    bare = {entry.pack for entry in kept if entry.section.codec is Codec.BARE}
    compact = tuple(p for p, live in share.items() if live < options.live_share * p.size and p not in bare)
    # A state that holds the same entries as the next one is no use to go back to, and would keep dead packs alive.
    views = (*earlier, loaded.view) if dropped else tuple(earlier)
    views = views[-options.keep_history :] if options.keep_history else ()
    states = tuple(view.head.state for view in views)
    referred = {f"packs/{entry.pack.name}" for view in views for rows in view.rows for entry in rows}
    referred |= {f"index/{ref.object.name}" for state in states for ref in state.segments}
    used = any(loaded.view.live[entry.name] != entry for entry in kept)
    rewrite = bool(dropped or compact or loaded.lost or used or len(head.state.segments) > 1)
    return _Plan(tuple(kept), tuple(dropped), compact, states, frozenset(referred), rewrite)


def _choose(entries: Sequence[Entry], options: PruneOptions, now: float) -> tuple[list[Entry], list[Entry]]:
    """Split the entries, latest used first, into those that stay and those that go."""
    kept: list[Entry] = []
    dropped: list[Entry] = []
    oldest = None if options.max_age is None else int((now - options.max_age) * 1e9)
    held = 0
    for entry in entries:
        held += stored_bytes(entry)
        too_old = oldest is not None and entry.slot.mtime < oldest
        too_much = options.max_bytes is not None and held > options.max_bytes
        (dropped if too_old or too_much else kept).append(entry)
    return kept, dropped


def _compact(space: Space, plan: _Plan) -> Mapping[str, Entry]:
    """Write the live entries of mostly dead packs into new ones; return where each lies now.

    A pack that cannot be read or is damaged stays as it is: verify is for that.
    """
    doomed = set(plan.compact)
    moved: dict[str, Entry] = {}
    for sections in packs_of(_sections(space, [entry for entry in plan.kept if entry.pack in doomed])):
        data, entries = fill(space, sections)
        space.create(space.object("packs", entries[0].pack.name), data)
        moved |= {entry.name: entry for entry in entries}
    return moved


def _sections(space: Space, entries: Sequence[Entry]) -> Iterator[Section]:
    """Encode entries anew, kind by kind, a few MiB at a time."""
    for kind in (Kind.MANIFEST, Kind.RESULT):
        files: list[tuple[str, bytes, int]] = []
        held = 0
        for name, data, mtime in _files(space, [entry for entry in entries if entry.kind is kind]):
            if files and held + len(data) > _SECTION_BYTES:
                yield from encode_sections(kind, files, recompress=True)
                files, held = [], 0
            files.append((name, data, mtime))
            held += len(data)
        if files:
            yield from encode_sections(kind, files, recompress=True)


def _files(space: Space, entries: Sequence[Entry]) -> Iterator[tuple[str, bytes, int]]:
    """Read entries back, pack by pack."""
    by_pack: dict[PackRef, list[Entry]] = {}
    for entry in entries:
        by_pack.setdefault(entry.pack, []).append(entry)
    for pack, members in by_pack.items():
        where = space.object("packs", pack.name)
        with contextlib.suppress(CorruptError, NotFoundError):
            data, _ = space.store.read(where)
            if hashlib.sha256(data).hexdigest() != pack.sha256:
                continue
            yield from list(_restored(data, members, where))


def _restored(data: bytes, members: Sequence[Entry], where: str) -> Iterator[tuple[str, bytes, int]]:
    for section in parse_pack(data, where):
        chosen = [entry for entry in members if entry.section == section]
        if chosen:
            stored = memoryview(data)[section.offset : section.offset + section.stored]
            decoded = memoryview(decode_section(section, stored, where))
        for entry in chosen:
            slot = entry.slot
            part = decoded[slot.offset : slot.offset + slot.length]
            yield slot.name, restore_entry(section.codec, slot, part, entry.kind), slot.mtime


def _next(
    space: Space, current: Loaded, plan: _Plan, moved: Mapping[str, Entry], here: _Situation
) -> tuple[Next, _Objects]:
    view = current.view
    doomed = set(plan.compact)
    kept = tuple(_moved(entry, moved) if entry.pack in doomed else entry for entry in plan.kept)
    refs: tuple[SegmentRef, ...] = view.head.state.segments
    rows: tuple[tuple[Entry, ...], ...] = tuple(map(tuple, view.rows))
    if plan.rewrite:
        refs, rows = ((space.write_segment(kept),), (kept,)) if kept else ((), ())
    uses = carry_uses(view, rows)
    objects = _objects(current, plan, here, kept, refs)
    state = State(0, time.time(), "", "prune", refs, uses)
    return Next(state, rows, objects.retired, plan.history), objects


def _moved(entry: Entry, moved: Mapping[str, Entry]) -> Entry:
    """Return where the entry lies now; one that somebody replaced since it was moved stays where it is."""
    found = moved.get(entry.name)
    return found if found is not None and found.slot.content == entry.slot.content else entry


def _objects(
    current: Loaded, plan: _Plan, here: _Situation, kept: Sequence[Entry], segments: Sequence[SegmentRef] = ()
) -> _Objects:
    """Sort what nothing refers to into what is noted only and what has been noted for longer than the grace period."""
    referred = plan.referred | {f"packs/{entry.pack.name}" for entry in kept}
    referred |= {f"index/{ref.object.name}" for ref in segments}
    before = current.view.head.retired
    loose = {name: before.get(name, here.now) for name in here.sizes if name not in referred}
    delete = tuple(name for name in loose if name in before and here.now - before[name] > here.options.grace)
    gone = set(delete)
    return _Objects({name: since for name, since in loose.items() if name not in gone}, delete)


def _delete(space: Space, names: Sequence[str]) -> None:
    """Delete objects that the head neither refers to nor notes any more; what stays is found again next time."""
    with ThreadPoolExecutor(8, "ccache-prune") as pool:
        list(pool.map(lambda name: space.store.delete(space.object(name)), names))
