"""Push: what a ccache directory has and its namespace has not, at a cost in proportion to that.

Order of writes: packs, index segment, head. Until the head is written nobody sees anything; a push that dies at any
point leaves the old head and some packs that housekeeping collects. A lost race for the head is repeated on what the
other writer left, so both writers' entries survive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from imagetiers.ccache.entry import Kind
from imagetiers.ccache.fingerprint import Fingerprint
from imagetiers.ccache.head import State, Use, check_step
from imagetiers.ccache.index import Entry
from imagetiers.ccache.merge import View, carry_uses, fold, make_use, supersedes, unite, version_of
from imagetiers.errors import CorruptError, ForbiddenError
from imagetiers.ports import Progress, Store
from imagetiers.steps.ccache_local import LocalEntry, kind_of, scan, segments_folder, stamp
from imagetiers.steps.ccache_space import Loaded, Next, Space, describe
from imagetiers.steps.ccache_upload import Candidate, upload
from imagetiers.steps.counting_store import CountingStore

__all__ = ["PushOptions", "PushOutcome", "PushResult", "push"]

PUSH_MAX_SECONDS = 3600.0
"""A push that takes longer between its first pack and its head starts again: housekeeping's grace period is longer."""

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
class PushOptions:
    """`recompress` packs raw payloads together (2x fewer bytes of a real PyTorch cache, more CPU).

    `threads` upload one pack each; four are as fast as sixteen, and each costs some 30 MB.
    """

    recompress: bool = True
    threads: int = 4


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did. `entry_bytes` counts the files' bytes, `stored_bytes` what was uploaded for them.

    `pushed` names the entries that are now in the namespace because of this push; `skipped` says for each entry that
    could not be pushed why; `lost` names index segments that were damaged or missing and are no longer referred to.
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

    def __str__(self) -> str:
        """Say it in one line."""
        text = f"{self.outcome}{f' ({self.detail})' if self.detail else ''}"
        if self.outcome is PushOutcome.PUSHED:
            text += f": {self.entries} entries, {self.entry_bytes} bytes as {self.stored_bytes} in {self.packs} packs"
        return f"{text}; {self.requests} requests, {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class _Run:
    """What every part of one push needs to know."""

    space: Space
    local: Mapping[str, LocalEntry]
    step: str
    used: frozenset[str]
    good: bool
    checkpoint: bool
    fingerprint: Fingerprint | None
    skipped: list[str] = field(default_factory=list)


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
    options: PushOptions | None = None,
    progress: Progress | None = None,
) -> PushResult:
    """Push `directory` into `namespace` and record the working set of `step`.

    The working set is every entry with an mtime (Unix ns) of `since` (the build's start) or later; all entries without
    it. `good` says that the run ended well: its working set becomes the step's, and one with other entries stays as
    the one before. Otherwise (a failed or unfinished run, or a `checkpoint`) it is kept beside the last good one. All of them
    are restored. What one of `parents` (namespaces
    that are read through) would restore for this step is not pushed again. Never writes after a failed or empty reading
    of the directory, and never fails for read-only credentials. Raises UnavailableError, CorruptError, ValueError.
    """
    started = time.monotonic()
    counting = CountingStore(store)
    check_step(step)
    try:
        local = scan(directory)
    except OSError as error:
        return PushResult(PushOutcome.UNREADABLE, detail=str(error), seconds=time.monotonic() - started)
    if not local:
        return PushResult(PushOutcome.EMPTY, seconds=time.monotonic() - started)
    used = frozenset(n for n, file in local.items() if since is None or file.mtime >= since - _CLOCK_SLACK)
    space = Space(counting, namespace, segments_folder(directory))
    run = _Run(space, local, step, used, good and not checkpoint, checkpoint, fingerprint)
    try:
        covered = _covered(counting, parents, directory, step)
        result = _push(run, covered, options or PushOptions(), progress)
    except ForbiddenError as error:
        result = {"outcome": PushOutcome.READ_ONLY, "detail": describe(error)}
    return PushResult(
        **result,  # type: ignore[arg-type]
        used=len(used),
        requests=counting.requests,
        seconds=time.monotonic() - started,
        skipped=tuple(run.skipped),
    )


def _push(
    run: _Run, covered: Mapping[str, Entry], options: PushOptions, progress: Progress | None
) -> dict[str, object]:
    space = run.space
    while True:
        loaded = space.load()
        began = time.monotonic()
        candidates = list(_candidates(run, loaded.view.live, covered))
        own, stats = upload(space, candidates, run.skipped, options, progress)
        late = threading.Event()

        def change(current: Loaded) -> Next | None:
            if time.monotonic() - began > PUSH_MAX_SECONDS:  # noqa: B023  called within this turn of the loop
                late.set()  # noqa: B023
                return None
            return _next(run, current, own)  # noqa: B023

        after = space.commit(loaded, change)
        if not late.is_set():
            break
    new = [entry for entry in own if after.view.live.get(entry.name) == entry]
    outcome = PushOutcome.PUSHED if new else PushOutcome.NOTHING_NEW
    space.forget_segments(after.view.head.state)
    return {
        "outcome": outcome,
        "sequence": after.view.head.state.sequence,
        "entries": len(new),
        "entry_bytes": sum(entry.slot.size for entry in new),
        "stored_bytes": stats.stored,
        "packs": stats.packs,
        "pushed": frozenset(entry.name for entry in new),
        "lost": loaded.lost,
    }


def _covered(store: Store, parents: Sequence[str], directory: Path, step: str) -> dict[str, Entry]:
    """Return what a pull of this step through the parents restores anyway: nothing of one that cannot be read."""
    covered: dict[str, Entry] = {}
    for parent in parents:
        try:
            view = Space(store, parent, segments_folder(directory)).load().view
            wanted = view.working_set(step)
        except (CorruptError, ForbiddenError):
            continue
        for name, entry in view.live.items():
            if (wanted is None or name in wanted) and name not in covered:
                covered[name] = entry
    return covered


def _candidates(run: _Run, live: Mapping[str, Entry], covered: Mapping[str, Entry]) -> Iterator[Candidate]:
    """Choose what is new: results by key, manifests by key, content id and creation time; never by mtime or size."""
    for name, file in run.local.items():
        old = live.get(name) or covered.get(name)
        kind = kind_of(name, old.kind if old else None)
        if old is not None and kind is Kind.RESULT:
            continue
        try:
            if kind is Kind.RESULT:
                yield Candidate(name, file, kind)
            elif (mark := stamp(file.path, file.size)) is None:
                run.skipped.append(f"{name}: vanished, or too short to be an entry")
            elif supersedes(mark.kind, mark.version, version_of(old) if old else None):
                yield Candidate(name, file, mark.kind)
        except OSError as error:
            run.skipped.append(f"{name}: {error.strerror}")


def _next(run: _Run, loaded: Loaded, own: Sequence[Entry]) -> Next | None:
    """Compute the state after this push from what is there now; called again after every lost race."""
    view = loaded.view
    added = unite(own, view.live)
    if added or loaded.lost:
        kept, kept_rows, fresh = fold(view, added)
        refs, rows = kept, kept_rows
        if fresh:
            refs, rows = (*kept, run.space.write_segment(tuple(fresh))), (*kept_rows, tuple(fresh))
        uses = carry_uses(view, rows)
    else:
        refs, rows, uses = view.head.state.segments, view.rows, dict(view.head.state.uses)
    changed = _record(run, view, rows, uses)
    if not added and not loaded.lost and run.checkpoint and not changed:
        return None
    reason = "checkpoint" if run.checkpoint else "push" if run.good else "partial push"
    state = State(0, time.time(), "", reason, refs, uses)
    return Next(state, tuple(tuple(some) for some in rows))


def _replaced(old: AbstractSet[str], new: AbstractSet[str]) -> bool:
    """Say whether a run used other entries in the place of some. One that only used fewer has no more need of the rest."""
    return not old <= new and not new <= old


def _record(run: _Run, view: View, rows: Sequence[Sequence[Entry]], uses: dict[tuple[str, str], Use]) -> bool:
    """Record the run's working set in `uses`; say whether that changed it. An empty one is never recorded."""
    known = {entry.name for some in rows for entry in some}
    used = run.used & known
    if not used:
        return False
    before = view.head.state.uses.get((run.step, "partial"))
    if not run.good and before is not None:
        used |= view.names(before) & known
    use = make_use(rows, used, time.time())
    use = Use(use.at, use.count, use.bytes, use.bits, run.fingerprint)
    key = (run.step, "good" if run.good else "partial")
    old = uses.get(key)
    uses[key] = use
    if run.good:
        uses.pop((run.step, "partial"), None)
        if old is not None and _replaced(view.names(view.head.state.uses[key]), used):
            uses[run.step, "before"] = old
    return old is None or (old.bits, old.fingerprint) != (use.bits, use.fingerprint)
