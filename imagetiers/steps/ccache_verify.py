"""Verify: read everything that a namespace refers to and re-hash all of it."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from imagetiers.ccache.head import State
from imagetiers.ccache.index import Entry
from imagetiers.ccache.merge import carry_uses
from imagetiers.ccache.pack import Codec, PackRef, decode_section, parse_pack, restore_entry
from imagetiers.errors import CorruptError, NotFoundError
from imagetiers.ports import Progress, Store
from imagetiers.steps.ccache_bare import check_file
from imagetiers.steps.ccache_space import Loaded, Next, Space, describe
from imagetiers.steps.counting_store import CountingStore

__all__ = ["VerifyResult", "verify"]

_THREADS = 4


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was read and found intact, and what is bad: one line for each pack, segment or entry, sorted."""

    entries: int
    packs: int
    bytes: int
    bad: tuple[str, ...]
    dropped: int = 0
    requests: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything is intact."""
        return not self.bad


def verify(store: Store, namespace: str, *, drop_bad: bool = False, progress: Progress | None = None) -> VerifyResult:
    """Check every live entry down to its own checksum. `drop_bad` then stops listing the bad ones.

    Entries that are no longer listed are pushed again by the next machine that has them. Raises StoreError (a damaged
    head is CorruptError; see `ccache_rollback.rebuild`).
    """
    started = time.monotonic()
    counting = CountingStore(store)
    space = Space(counting, namespace)
    loaded = space.load()
    bad = [f"{name}: missing or damaged" for name in loaded.lost]
    by_pack: dict[PackRef, list[Entry]] = {}
    for entry in loaded.view.live.values():
        by_pack.setdefault(entry.pack, []).append(entry)
    if progress:
        progress.start(sum(pack.size for pack in by_pack))
    broken: set[str] = set()
    lock = threading.Lock()

    def one(item: tuple[PackRef, list[Entry]]) -> None:
        pack, entries = item
        found = check_pack(space, pack, entries)
        with lock:
            bad.extend(found.values())
            broken.update(found)
        if progress:
            progress.advance(pack.size)

    with ThreadPoolExecutor(_THREADS, "ccache-verify") as pool:
        list(pool.map(one, by_pack.items()))
    dropped = 0
    if drop_bad and (broken or loaded.lost):
        dropped = _drop(space, loaded, broken)
    return VerifyResult(
        len(loaded.view.live) - len(broken),
        len(by_pack),
        sum(pack.size for pack in by_pack),
        tuple(sorted(bad)),
        dropped,
        counting.requests,
        time.monotonic() - started,
    )


def check_pack(space: Space, pack: PackRef, entries: Sequence[Entry]) -> Mapping[str, str]:
    """Check a pack and these entries of it; return what is wrong by entry name (all of them for a bad pack)."""
    where = space.object("packs", pack.name)
    try:
        if entries[0].section.codec is Codec.BARE:
            _check_bare(space, where, entries[0])
            return {}
        data, _ = space.store.read(where)
        if len(data) != pack.size or hashlib.sha256(data).hexdigest() != pack.sha256:
            raise CorruptError.of(where, "the pack is not what its name says")
        table = parse_pack(data, where)
    except (CorruptError, NotFoundError) as error:
        return {entry.name: f"{entry.name}: {describe(error)}" for entry in entries}
    bad: dict[str, str] = {}
    for section in table:
        members = [entry for entry in entries if entry.section == section]
        if not members:
            continue
        stored = memoryview(data)[section.offset : section.offset + section.stored]
        try:
            decoded = memoryview(decode_section(section, stored, where))
        except CorruptError as error:
            bad |= {entry.name: f"{entry.name}: {describe(error)}" for entry in members}
            continue
        for entry in members:
            part = decoded[entry.slot.offset : entry.slot.offset + entry.slot.length]
            try:
                restore_entry(section.codec, entry.slot, part, entry.kind)
            except CorruptError as error:
                bad[entry.name] = f"{where}: {describe(error)}"
    missing = [entry for entry in entries if entry.section not in table]
    return bad | {
        entry.name: f"{where}: the pack has no such section as {entry.name} is listed in" for entry in missing
    }


def _check_bare(space: Space, where: str, entry: Entry) -> None:
    with tempfile.TemporaryDirectory(prefix="imagetiers-verify-") as folder:
        path = Path(folder) / "entry"
        space.store.read_file(where, path)
        checked = check_file(path, entry.name)
    if (checked.sha256, checked.content, checked.kind) != (entry.pack.sha256, entry.slot.content, entry.kind):
        raise CorruptError.of(where, "the entry is not the one that the index says")


def _drop(space: Space, loaded: Loaded, broken: set[str]) -> int:
    """Write a state without the broken entries (what took a broken one's name meanwhile stays)."""
    bad = {loaded.view.live[name] for name in broken}
    dropped = 0

    def change(current: Loaded) -> Next | None:
        nonlocal dropped
        kept = tuple(entry for entry in current.view.live.values() if entry not in bad)
        dropped = len(current.view.live) - len(kept)
        rows = (kept,) if kept else ()
        refs = (space.write_segment(kept),) if kept else ()
        uses = carry_uses(current.view, rows)
        return Next(State(0, time.time(), "", "verify", refs, uses), rows)

    space.commit(loaded, change)
    return dropped
