"""Push: what a ccache directory has and its namespace has not, at a cost in proportion to that.

Order of writes: packs, index segment, working sets, head. Until the head is written nobody sees anything; a push that dies
at any point leaves the old head and some packs that housekeeping collects. A lost race for the head is repeated on what
the other writer left, so both writers' entries survive.

Before the head, the namespace's objects are listed: are the packs of this push still there, and by the store's own clock
no older than housekeeping lets them be? A machine may have slept in between, and its clocks with it. The same listing shows
which packs of others are gone; what they held is pushed again when it is here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.format.fingerprint import Fingerprint
from imagetiers.ccache.format.head import NamespaceState, Use, check_step
from imagetiers.ccache.format.index import Entry, names_of, packs_in
from imagetiers.ccache.format.merge import (
    Live,
    Version,
    View,
    carry_uses,
    fold,
    make_use,
    supersedes,
    unite,
    version_of,
)
from imagetiers.ccache.known_files import KnownFiles
from imagetiers.ccache.local import LocalEntries, counted_folders, kind_of, scan, segments_folder, stamp
from imagetiers.ccache.namespace import Loaded, Namespace, Next, describe
from imagetiers.ccache.packing import LocalCandidate
from imagetiers.ccache.upload import upload
from imagetiers.errors import CorruptError, ForbiddenError, UnavailableError
from imagetiers.stores.counting import CountingStore
from imagetiers.stores.port import Blob, Progress, Store

__all__ = ["PushOutcome", "PushResult", "late", "push"]

PUSH_MAX_SECONDS = 3600.0
"""A push that takes longer between its first pack and its head (by the store's clock) starts again: housekeeping's grace
period is longer."""

UPLOADS = 4
"""Threads that upload: as fast as sixteen, and each costs some 30 MB."""

_TURNS = 4
_SKEW_MIN = 30.0
_DOUBTS_MAX = 64

_CLOCK_SLACK = 20_000_000
"""Nanoseconds: the kernel stamps files with a clock that lags behind time.time_ns() by up to one tick (10 ms)."""


class PushOutcome(StrEnum):
    """How a push ended."""

    PUSHED = "pushed"
    NOTHING_NEW = "nothing new"
    READ_ONLY = "not pushed: read-only"
    EMPTY = "not pushed: the cache directory holds no entries"
    UNREADABLE = "not pushed: the cache directory could not be read"


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did. `entry_bytes` counts the files' bytes, `stored_bytes` what was uploaded for them.

    `pushed` names the entries that are now in the namespace because of this push; `skipped` says for each entry that
    could not be pushed why; `lost` names index segments that could not be read (the state still refers to them). `held` are
    the bytes of all packs that the namespace refers to afterwards.
    """

    outcome: PushOutcome
    sequence: int = 0
    entries: int = 0
    entry_bytes: int = 0
    stored_bytes: int = 0
    packs: int = 0
    used: int = 0
    requests: int = 0
    seconds: float = 0.0
    detail: str = ""
    pushed: frozenset[str] = frozenset()
    skipped: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    held: int = 0

    def __str__(self) -> str:
        """Say it in one line."""
        text = f"{self.outcome}{f' ({self.detail})' if self.detail else ''}"
        if self.outcome is PushOutcome.PUSHED:
            text += f": {self.entries} entries, {self.entry_bytes} bytes as {self.stored_bytes} in {self.packs} packs"
        return f"{text}; {self.requests} requests, {self.seconds:.1f} s"


@dataclass(slots=True)
class _Run:
    """What every part of one push needs to know.

    `first` is the namespace as it was at the beginning, until it is used. `gone` are packs whose entries count as absent;
    `skew` is how many seconds the store's clock is ahead.
    """

    space: Namespace
    local: LocalEntries
    seen: KnownFiles
    step: str
    used: frozenset[str]
    good: bool
    checkpoint: bool
    fingerprint: Fingerprint | None
    with_last: bool = False
    skipped: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    skew: float = 0.0
    first: Loaded | None = None
    loaded: bool = False


def push(
    store: Store,
    namespace: str,
    directory: Path,
    *,
    step: str = "default",
    since: int | None = None,
    good: bool = True,
    checkpoint: bool = False,
    fingerprint: Fingerprint | None = None,
    parents: Sequence[str] = (),
    with_last: bool = False,
    threads: int = UPLOADS,
    progress: Progress | None = None,
) -> PushResult:
    """Push `directory` into `namespace` and record the working set of `step`.

    The working set is every entry with an mtime (Unix ns) of `since` (the build's start) or later; all entries without
    it. `good` says that the run ended well: its working set becomes the step's, and one with other entries stays as
    the one before. Otherwise (a failed or unfinished run, or a `checkpoint`) it is kept beside the last good one. All of them
    are restored. `with_last`: what the last good run has used counts as used by this one, which had its results without ccache.
    What one of `parents` (namespaces that are read through) would restore for this step is not pushed again. `threads` upload
    one pack each. Never writes after a failed or empty reading of the directory, and never fails for credentials that are
    read-only from the first write on. Raises StoreError, ValueError.
    """
    started = time.monotonic()
    counting = CountingStore(store)
    check_step(step)
    space = Namespace(counting, namespace, segments_folder(directory))
    try:
        local, load = _begin(space, directory)
    except OSError as error:
        return PushResult(PushOutcome.UNREADABLE, detail=str(error), seconds=time.monotonic() - started)
    if not local:
        return PushResult(PushOutcome.EMPTY, seconds=time.monotonic() - started)
    used = local.used_since(None if since is None else since - _CLOCK_SLACK)
    run = _Run(
        space,
        local,
        KnownFiles(space.segments),
        step,
        used,
        good and not checkpoint,
        checkpoint,
        fingerprint,
        with_last,
    )
    try:
        run.first = load()
        result = _push(run, parents, directory, threads, progress)
    except ForbiddenError as error:
        if counting.written or not run.loaded:
            raise  # who may write once may always: this is a failure, and what it left undone must be known
        result = {"outcome": PushOutcome.READ_ONLY, "detail": describe(error)}
    return PushResult(
        **result,  # type: ignore[arg-type]
        used=len(used),
        requests=counting.requests,
        seconds=time.monotonic() - started,
        skipped=tuple(run.skipped),
    )


def _begin(space: Namespace, directory: Path) -> tuple[LocalEntries, Callable[[], Loaded]]:
    """Read the directory, and meanwhile the namespace; but that only when asked where there is nothing here."""
    if not counted_folders(directory):
        return scan(directory), space.load
    with ThreadPoolExecutor(1, "ccache-load") as pool:
        loading = pool.submit(space.load)
        return scan(directory), loading.result


def _push(
    run: _Run, parents: Sequence[str], directory: Path, threads: int, progress: Progress | None
) -> dict[str, object]:
    space = run.space
    pushed: dict[str, Entry] = {}
    packs = stored = 0
    lost: tuple[str, ...] = ()
    covered: Mapping[str, Entry] | None = None
    run.gone.update(space.quarantined())
    for _ in range(_TURNS):
        # Another nonce each time: what the last turn wrote is old, or about to be deleted, and is not to be met again.
        space = run.space = replace(space, nonce=secrets.token_hex(8))
        loaded, run.first = run.first or space.load(), None
        run.loaded = True
        lost = lost or loaded.lost
        if covered is None:
            covered = _covered(run, parents, directory, loaded.view.live)
        run.skew = _skew(space)
        candidates = list(_candidates(run, loaded.view.live, covered))
        own, stats = upload(space, candidates, run.skipped, threads, progress)
        for manifest in stats.manifests:
            run.seen.remember(manifest)
        packs, stored = packs + stats.packs, stored + stats.stored
        turn = _Turn(run, [_by_the_stores_clock(entry, run.skew) for entry in own])
        after = space.commit(loaded, turn.change)
        if turn.late:
            continue
        run.gone.clear()
        pushed |= {entry.name: entry for entry in turn.own if after.view.live.get(entry.name) == entry}
        if turn.written:
            space.quarantine(())
        run.gone.update(_gone_but_here(run, after, turn.packs_there))
        if not run.gone:
            break
    else:
        if turn.late:
            hint = "run it again; what was uploaded is collected by doit ccache:prune"
            raise UnavailableError.of(space.object("packs"), f"packs were gone or too old {_TURNS} times", hint)
    run.seen.save(run.local)
    space.forget_segments(after.view.head)
    return {
        "outcome": PushOutcome.PUSHED if pushed else PushOutcome.NOTHING_NEW,
        "sequence": after.view.head.state.sequence,
        "entries": len(pushed),
        "entry_bytes": sum(entry.slot.size for entry in pushed.values()),
        "stored_bytes": stored,
        "packs": packs,
        "pushed": frozenset(pushed),
        "lost": lost,
        "held": sum(pack.size for pack in {pack for rows in after.view.rows for pack in packs_in(rows)}),
    }


@dataclass
class _Turn:
    """One try to commit: what it adds, whether its packs were gone or too old by then, and which packs the store has."""

    run: _Run
    own: list[Entry]
    late: bool = False
    written: bool = False
    packs_there: frozenset[str] | None = None

    def change(self, current: Loaded) -> Next | None:
        """Compute the next state; None when there is none, or when this push has to begin again."""
        following = _next(self.run, current, self.own)
        if following is None:
            return None
        if self.own or not self.run.checkpoint:
            listing = self.run.space.listing()
            self.packs_there = frozenset(name for name in listing if name.startswith("packs/"))
            self.late = bool(self.own) and late(self.own, following.state, current, listing)
            missing = [("index", ref.object) for ref in current.view.head.state.segments]
            missing += [("sets", current.view.head.state.sets)] if current.view.head.state.sets else []
            self.run.space.restore((folder, ref) for folder, ref in missing if f"{folder}/{ref.name}" not in listing)
        self.written = not self.late
        return following if self.written else None


def late(own: Sequence[Entry], state: NamespaceState, current: Loaded, listing: Mapping[str, Blob]) -> bool:
    """Say whether own packs are gone, or older than a push may be, by the times that the store gave its objects.

    The index segment was written a moment ago, so its time is now.
    """
    packs = [listing.get(f"packs/{name}") for name in {entry.pack.name for entry in own}]
    before = {ref.object.name for ref in current.view.head.state.segments}
    fresh = [listing.get(f"index/{ref.object.name}") for ref in state.segments if ref.object.name not in before]
    there = [blob.updated for blob in packs if blob is not None]
    now = [blob.updated for blob in fresh if blob is not None]
    if len(there) < len(packs) or len(now) < len(fresh):
        return True
    return bool(now) and max(now) - min(there) > PUSH_MAX_SECONDS


def _gone_but_here(run: _Run, after: Loaded, there: frozenset[str] | None) -> set[str]:
    """Return the packs that the state refers to, the store does not have, and whose entries are here to be pushed again."""
    if there is None:
        return set()
    listed = {pack.name for rows in after.view.rows for pack in packs_in(rows)}
    missing = {name for name in listed if f"packs/{name}" not in there}
    if 0 < len(missing) <= _DOUBTS_MAX:  # what one listing left out may be there all the same
        missing = {name for name in missing if run.space.store.stat(run.space.object("packs", name)) is None}
    if not missing:
        return set()
    live = after.view.live
    return {pack for name in run.local if name in live and (pack := live[name].pack.name) in missing}


def _skew(space: Namespace) -> float:
    """Return how many seconds the store's clock is ahead of this machine's; small differences are none."""
    skew = space.now() - time.time()
    return skew if abs(skew) >= _SKEW_MIN else 0.0


def _by_the_stores_clock(entry: Entry, skew: float) -> Entry:
    if not skew:
        return entry
    slot = entry.slot
    moved = replace(slot, mtime=slot.mtime + int(skew * 1e9), created=max(0, slot.created + int(skew)))
    return replace(entry, slot=moved)


def _covered(run: _Run, parents: Sequence[str], directory: Path, live: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return what a pull of this step through the parents restores anyway: nothing of one that cannot be read.

    Only of what is here and not in the namespace itself.
    """
    covered: dict[str, Entry] = {}
    for parent in parents:
        space = Namespace(run.space.store, parent, segments_folder(directory))
        try:
            loaded = space.load()
            wanted = loaded.view.working_set(run.step)
        except (CorruptError, ForbiddenError):
            continue
        gone = space.quarantined()
        for name in run.local:
            if name in live or name in covered or (wanted is not None and name not in wanted):
                continue
            entry = loaded.view.live.get(name)
            if entry is not None and entry.pack.name not in gone:
                covered[name] = entry
    return covered


def _candidates(run: _Run, live: Live, covered: Mapping[str, Entry]) -> Iterator[LocalCandidate]:
    """Choose what is new: results by key, manifests by key, content id and creation time; never by mtime or size."""
    for name in run.local if run.gone else _unanswered(run, live):
        file = run.local[name]
        old = live.get(name) or covered.get(name)
        if old is not None and old.pack.name in run.gone:
            old = None
        kind = kind_of(name, old.kind if old else None)
        if old is not None and kind is Kind.RESULT:
            continue
        try:
            if kind is Kind.RESULT:
                yield LocalCandidate(name, file, kind)
            elif (mark := stamp(file.path, file.size)) is None:
                run.skipped.append(f"{name}: vanished, or too short to be an entry")
            elif supersedes(mark.kind, _corrected(mark.version, run.skew), version_of(old) if old else None):
                yield LocalCandidate(name, file, mark.kind)
        except OSError as error:
            run.skipped.append(f"{name}: {error.strerror}")


def _unanswered(run: _Run, live: Live) -> Iterator[str]:
    """Leave out what nearly all of a warm run's entries are: a result that is there, or a manifest of the same content."""
    for name, identity, stored in zip(run.local, run.local.identities(), live.marks(run.local), strict=True):
        if stored and run.seen.holds(run.local, name, identity, stored):
            continue
        if stored != b"":
            yield name


def _corrected(version: Version, skew: float) -> Version:
    """Return an entry's version as if it had been written by the store's clock: a fast machine must not win for a day."""
    created, size, content = version
    return (max(0, created + int(skew)), size, content) if skew else version


def _next(run: _Run, loaded: Loaded, own: Sequence[Entry]) -> Next | None:
    """Compute the state after this push from what is there now; called again after every lost race.

    Nothing is let go of: a state of which something could not be read only gets one more segment.
    """
    view = loaded.view
    old = view.head.state
    added = unite(own, view.live, run.gone)
    refs, rows = old.segments, view.rows
    if added:
        kept, kept_rows, fresh = (refs, rows, added) if loaded.sets_lost else fold(view, added)
        written, made = run.space.write_segments(fresh)
        refs, rows = (*kept, *written), (*kept_rows, *made)
    uses = carry_uses(view, refs, rows)
    changed = not loaded.sets_lost and _record(run, view, NamespaceState(segments=refs), rows, uses)
    if not added and run.checkpoint and not changed:
        return None
    reason = "checkpoint" if run.checkpoint else "push" if run.good else "partial push"
    return Next(NamespaceState(0, run.space.now(), "", reason, refs, uses), rows)


def _replaced(old: AbstractSet[str], new: AbstractSet[str]) -> bool:
    """Say whether a run used other entries in the place of some. One that only used fewer has no more need of the rest."""
    return not old <= new and not new <= old


def _record(
    run: _Run, view: View, state: NamespaceState, rows: Sequence[Sequence[Entry]], uses: dict[tuple[str, str], Use]
) -> bool:
    """Record the run's working set in `uses`; say whether that changed it. An empty one is never recorded."""
    used: set[str] = set()
    for some in rows:
        used.update(filter(run.used.__contains__, names_of(some)))
    if not used:
        return False
    before = view.head.state.uses.get((run.step, "partial"))
    if not run.good and before is not None:
        used |= view.names(before)
    last = view.head.state.uses.get((run.step, "good"))
    if run.good and run.with_last and last is not None:
        used |= view.names(last)
    use = make_use(state.segments, rows, used, run.space.now())
    use = Use(use.at, use.count, use.bytes, use.bits, run.fingerprint)
    key = (run.step, "good" if run.good else "partial")
    old = uses.get(key)
    uses[key] = use
    if run.good:
        uses.pop((run.step, "partial"), None)
        if old is not None and old.bits != use.bits and _replaced(view.names(view.head.state.uses[key]), used):
            uses[run.step, "before"] = old
    return old is None or (old.bits, old.fingerprint) != (use.bits, use.fingerprint)
