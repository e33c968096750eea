"""Pull: the entries that the next compile will ask for, from packs into the cache directory.

Each pack is a task: its bytes (all of it when more than half is wanted, else the wanted ranges merged over small gaps)
are fetched, checked and decoded completely before the first entry of it is written, so nothing of a bad pack is ever
applied. A pull that dies at any point leaves whole entries; the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from imagetiers.ccache.download import Extents, Wanted, extents_of, fetch, fetched_size
from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.merge import Live, supersedes, version_of
from imagetiers.ccache.format.pack import PACK_MAX, Codec, PackRef
from imagetiers.ccache.large_entry import fetch_bare
from imagetiers.ccache.local import LocalEntry, counted_folders, scan, segments_folder, stamp
from imagetiers.ccache.namespace import Namespace, describe
from imagetiers.ccache.unpack import Recount, Unpack, Unpacked
from imagetiers.ccache.workers import Workers
from imagetiers.errors import CorruptError, NotFoundError
from imagetiers.stores.counting import CountingStore
from imagetiers.stores.port import Progress, Store

__all__ = ["Peek", "PullResult", "peek", "pull"]

BUDGET = 112 * 1024 * 1024
"""Bytes of packs and decoded entries held at a time, whatever the threads; a pack that needs more is refused."""

RANGES = 16
"""Ranges of packs that are fetched at a time, beside whole packs: of what is scattered, more is waiting than moving."""

_SOURCE, _NUMBER = 33, (1 << 32) - 1

_Packs = dict[tuple[int, PackRef], "array[int]"]
"""Codes of wanted entries by namespace (its place in the chain) and pack."""


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull did. `entry_bytes` are the restored files' bytes, `fetched_bytes` what was read of packs for them.

    `present` entries were in the directory already. `quarantined` says for each bad or missing pack or index segment
    what is wrong with it; nothing of it was applied, and the next push of this machine stores again what it should hold.
    `stopped` says why the pull ended early (the disk is full).
    `sequences` has each namespace's head, 0 where there is none.
    """

    entries: int = 0
    entry_bytes: int = 0
    fetched_bytes: int = 0
    present: int = 0
    requests: int = 0
    seconds: float = 0.0
    quarantined: tuple[str, ...] = ()
    stopped: str = ""
    sequences: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say it in one line."""
        text = f"{self.entries} entries restored ({self.entry_bytes} bytes from {self.fetched_bytes}), "
        text += f"{self.present} already there; {self.requests} requests, {self.seconds:.1f} s"
        text += f"; {len(self.quarantined)} quarantined" if self.quarantined else ""
        return text + (f"; stopped: {self.stopped}" if self.stopped else "")


@dataclass(frozen=True, slots=True)
class Peek:
    """What a pull would find: a good run of the step, any entries (also such as are here), and the bytes that it fetches."""

    good: bool = False
    some: bool = False
    bytes: int = 0


@dataclass
class _Chosen:
    """What a pull wants: for each name, in order, where it is listed (see `_code`), and what was seen on the way to them."""

    sources: list[tuple[Namespace, Live]] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    quarantined: list[str] = field(default_factory=list)
    good: bool = False

    def entry(self, code: int) -> Entry:
        """Return the entry of a code."""
        return self.sources[code >> _SOURCE][1].entry(code >> 1 & _NUMBER)

    def wanted(self, codes: Iterable[int]) -> list[Wanted]:
        """Return what is wanted by these codes."""
        spaces = [space for space, _ in self.sources]
        return [Wanted(self.entry(code), spaces[code >> _SOURCE], replace=bool(code & 1)) for code in codes]


class _Budget:
    """Bytes that may be held at a time."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def held(self, size: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


class _Hands(NamedTuple):
    """Who works for a pull: processes for the entries of packs, and threads for ranges of these."""

    workers: Workers
    ranges: Executor


@dataclass
class _Run:
    """One pull's running totals, shared by its threads."""

    directory: str
    now: int
    progress: Progress | None
    budget: _Budget = field(default_factory=lambda: _Budget(BUDGET))
    lock: threading.Lock = field(default_factory=threading.Lock)
    entries: int = 0
    entry_bytes: int = 0
    fetched: int = 0
    quarantined: list[str] = field(default_factory=list)
    bad: dict[Namespace, set[str]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    stopped: str = ""

    def got(self, amount: int) -> None:
        with self.lock:
            self.fetched += amount
        if self.progress:
            self.progress.advance(amount)

    def make_folders(self, needed: set[str]) -> None:
        """Make the folders of these two digits, each once: of a cold pull, nearly every pack has entries in all of them."""
        for folder in needed - self.folders:
            Path(self.directory, folder[0], folder[1]).mkdir(parents=True, exist_ok=True)
            self.folders.add(folder)

    def done(self, entries: int, size: int) -> None:
        with self.lock:
            self.entries += entries
            self.entry_bytes += size


def pull(
    store: Store,
    namespaces: Sequence[str],
    directory: Path,
    *,
    step: str | None = None,
    arches: Collection[str] = (),
    everything: bool = False,
    threads: int = 12,
    progress: Progress | None = None,
    counters: bool = True,
) -> PullResult:
    """Restore into `directory` what `step` needs, read through a chain of namespaces (the first one wins a name).

    That is the working set of the step's last good run, of the good one before and of a later unfinished one; of all
    steps when this one never ran; and all entries of a namespace where no run is known. `everything` restores the
    rest, too, after the working set. So does one of `arches` that none of those runs compiled for: what an earlier run
    compiled for that architecture is still stored. Entries that are there stay (a manifest gives way to a newer one);
    mtimes are the old ones, never in the future. With `counters`, ccache's own are set to what is there (see
    `local.recount`). Raises StoreError when a namespace cannot be read at all, OSError when the directory cannot.
    """
    started = time.monotonic()
    counting = CountingStore(store)
    directory.mkdir(parents=True, exist_ok=True)
    run = _Run(os.fspath(directory), time.time_ns(), progress)
    chosen = _choose(counting, namespaces, directory, step=step, arches=arches, everything=everything)
    run.quarantined += chosen.quarantined
    packs, missing = _by_pack(chosen, _there(directory))
    present = len(chosen.codes) - missing
    chosen.codes.clear()  # the packs have them now
    _fetch_all(run, chosen, packs, threads, counters=counters)
    for space in {chosen.sources[source][0] for source, _ in packs}:
        space.quarantine(run.bad.get(space, ()))  # the next push of this machine stores again what these held
    return PullResult(
        run.entries,
        run.entry_bytes,
        run.fetched,
        present,
        counting.requests,
        time.monotonic() - started,
        tuple(run.quarantined),
        run.stopped,
        chosen.sequences,
    )


def peek(store: Store, namespaces: Sequence[str], directory: Path, *, step: str, arches: Collection[str] = ()) -> Peek:
    """Say what `pull` would find for `step`, and fetch no pack. Raises StoreError when a namespace cannot be read."""
    chosen = _choose(store, namespaces, directory, step=step, arches=arches)
    there = _there(directory)
    packs, _ = _by_pack(chosen, there)
    return Peek(chosen.good, bool(chosen.codes or any(file.size for file in there.values())), _size(chosen, packs))


def _there(directory: Path) -> Mapping[str, LocalEntry]:
    return scan(directory) if directory.is_dir() else {}


def _choose(
    store: Store,
    namespaces: Sequence[str],
    directory: Path,
    *,
    step: str | None,
    arches: Collection[str] = (),
    everything: bool = False,
) -> _Chosen:
    chosen = _Chosen()
    first: dict[str, int] = {}
    rest: dict[str, int] = {}
    compiled_for: set[str] = set()
    kept = segments_folder(directory) if directory.is_dir() else None
    for namespace in namespaces:
        space = Namespace(store, namespace, kept)
        try:
            loaded = space.load()
            wanted = loaded.view.working_set(step)
        except CorruptError as error:
            chosen.quarantined.append(describe(error))
            chosen.sequences[namespace] = 0
            continue
        chosen.quarantined += [f"{name}: missing or damaged" for name in loaded.lost]
        chosen.sequences[namespace] = loaded.view.head.state.sequence
        chosen.good |= (step, "good") in loaded.view.head.state.uses
        compiled_for |= loaded.view.arches(step)
        source = len(chosen.sources)
        chosen.sources.append((space, loaded.view.live))
        for name, number in loaded.view.live.numbers():
            if name not in first and (wanted is None or name in wanted):
                first[name] = _code(source, number)
            elif (everything or arches) and name not in rest:
                rest[name] = _code(source, number)
    if everything or not all({arch, f"{arch}+PTX"} & compiled_for for arch in arches):
        for name in first:
            rest.pop(name, None)
        first.update(rest)
    chosen.codes = first
    return chosen


def _code(source: int, number: int) -> int:
    """Put into one number where an entry is listed: the namespace, the entry's number there, and whether it replaces a file.

    Of two million entries that is 60 MB; as values they would take more than a gigabyte.
    """
    return source << _SOURCE | number << 1


def _by_pack(chosen: _Chosen, there: Mapping[str, LocalEntry]) -> tuple[_Packs, int]:
    """Sort what is not there by pack, in the order in which the packs' first entries are wanted; count the entries.

    Also what is there, where it is a manifest of which the store has a newer version.
    """
    packs: _Packs = {}
    missing = 0
    for name, code in chosen.codes.items():
        file = there.get(name)
        if file is not None and file.size:
            if not _is_newer(chosen.entry(code), file):
                continue
            code |= 1  # noqa: PLW2901  the same entry, to replace what is there
        missing += 1
        source = code >> _SOURCE
        pack = chosen.sources[source][1].pack(code >> 1 & _NUMBER)
        packs.setdefault((source, pack), array("Q")).append(code)
    return packs, missing


def _is_newer(entry: Entry, file: LocalEntry) -> bool:
    """Say whether the store has a newer version of a manifest that is here; a file that cannot be read stays."""
    if entry.kind is Kind.MANIFEST:
        with contextlib.suppress(OSError):
            mark = stamp(file.path, file.size)
            return mark is not None and supersedes(Kind.MANIFEST, version_of(entry), mark.version)
    return False


def _size(chosen: _Chosen, packs: _Packs) -> int:
    """Return the bytes that will be fetched."""
    return sum(fetched_size(pack, extents_of(chosen.wanted(codes))) for (_, pack), codes in packs.items())


def _fetch_all(run: _Run, chosen: _Chosen, packs: _Packs, threads: int, *, counters: bool) -> None:
    if not packs:
        return
    if run.progress:
        run.progress.start(_size(chosen, packs))
    with (
        Workers(sum(map(len, packs.values())), min(threads, len(packs))) as workers,
        ThreadPoolExecutor(RANGES, "ccache-ranges") as ranges,
        ThreadPoolExecutor(threads, "ccache-pull") as pool,
    ):
        hands = _Hands(workers, ranges)
        futures = [pool.submit(_task, run, chosen, pack, codes, hands) for (_, pack), codes in packs.items()]
        try:
            for future in futures:
                future.result()
            if counters and run.entries:
                _recount(run, workers, pool)
        except BaseException:
            for each in (pool, ranges):
                each.shutdown(wait=False, cancel_futures=True)
            raise


def _recount(run: _Run, workers: Workers, pool: Executor) -> None:
    def one(folder: Path) -> None:
        with workers.room() as room:
            workers.do(Recount(folder), room)

    try:
        list(pool.map(one, counted_folders(Path(run.directory))))
    except OSError as error:
        run.stopped = run.stopped or str(error)


def _task(run: _Run, chosen: _Chosen, pack: PackRef, codes: Iterable[int], hands: _Hands) -> None:
    if run.stopped:
        return
    wanted = chosen.wanted(codes)
    space = wanted[0].space
    where = space.object("packs", pack.name)
    try:
        run.make_folders({one.entry.name[:2] for one in wanted})
        if wanted[0].entry.section.codec is Codec.BARE:
            for one in wanted:
                mtime = min(one.entry.slot.mtime, run.now)
                if fetch_bare(space, one.entry, run.directory, mtime, replace=one.replace):
                    run.done(1, one.entry.slot.size)
                run.got(pack.size)
            return
        extents = extents_of(wanted)
        size = fetched_size(pack, extents)
        cost = size + _unpacked(wanted, extents)
        if size > PACK_MAX or cost > BUDGET:
            raise CorruptError.of(where, "the pack holds more than a pack may")
        with run.budget.held(cost):
            unpacked = _restore(run, pack, wanted, extents, hands)
        run.done(unpacked.entries, unpacked.size)
        if unpacked.failed is not None:
            raise unpacked.failed
    except (CorruptError, NotFoundError) as error:
        run.quarantined.append(describe(error) if error.problems[0].where == where else f"{where}: {describe(error)}")
        run.bad.setdefault(space, set()).add(pack.name)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}:
            raise
        run.stopped = str(error)


def _unpacked(wanted: Sequence[Wanted], extents: Extents) -> int:
    """Return the bytes that a pack's compressed sections and their entries come to; others lie in what was fetched."""
    sections = sum(ref.raw for ref in extents if ref.codec is Codec.ZSTD)
    return sections + sum(one.entry.slot.size for one in wanted if one.entry.section.codec is Codec.ZSTD)


def _restore(run: _Run, pack: PackRef, wanted: Sequence[Wanted], extents: Extents, hands: _Hands) -> Unpacked:
    """Fetch, check and write a pack's entries; fetch them once more when they are damaged, for the reading may be bad."""
    space = wanted[0].space

    def attempt(got: Callable[[int], None]) -> Unpacked:
        with hands.workers.room() as room:
            fetched = fetch(space, pack, extents, room.memory, got, beside=hands.ranges)
            order = Unpack(space.object("packs", pack.name), run.directory, fetched.runs(wanted, run.now))
            return hands.workers.do(order, room)

    try:
        return attempt(run.got)
    except (CorruptError, NotFoundError):
        return attempt(lambda _: None)
