"""Verify: read everything that a namespace refers to and re-hash all of it."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagetiers.ccache.format.head import HISTORY_MAX, NamespaceState
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.merge import carry_uses
from imagetiers.ccache.format.pack import Codec, PackRef, decode_section, parse_pack, restore_entry
from imagetiers.ccache.large_entry import check_file, check_size
from imagetiers.ccache.local import segments_folder, sweep
from imagetiers.ccache.namespace import Loaded, Namespace, Next, describe, unreadable
from imagetiers.ccache.push import push
from imagetiers.errors import CorruptError, NotFoundError
from imagetiers.parallel import map_parallel
from imagetiers.stores.counting import CountingStore
from imagetiers.stores.port import Progress, Store

__all__ = ["VerifyResult", "verify"]

_THREADS = 4
_READS = 4
"""How often a pack is read before it is called bad: of two bad reads in a row a soak saw some, and a good pack was dropped."""
_TEMPORARY = "imagetiers-verify-"
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was read and found intact, and what is bad: one line for each pack, segment or entry, sorted.

    `repaired` entries were bad and have been stored again from a cache directory of this machine; they are not in `bad`.
    """

    entries: int
    packs: int
    bytes: int
    bad: tuple[str, ...]
    dropped: int = 0
    requests: int = 0
    seconds: float = 0.0
    repaired: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything is intact."""
        return not self.bad


def verify(
    store: Store,
    namespace: str,
    *,
    drop_bad: bool = False,
    accept_loss: bool = False,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> VerifyResult:
    """Check every live entry down to its own checksum; what is bad was bad each of four times that it was read.

    What is bad and lies in `directory` (a cache directory of this machine) is stored again. `drop_bad` then stops listing
    the rest; with `accept_loss` also index segments that cannot be read. The state before stays in the history.

    Entries that are no longer listed are pushed again by the next machine that has them. Raises StoreError (a damaged
    head is CorruptError; see `rollback.rebuild`), CorruptError when dropping would give up unreadable segments.
    """
    started = time.monotonic()
    counting = CountingStore(store)
    sweep(_TEMPORARY)
    space = Namespace(counting, namespace)
    loaded = space.load()
    if directory is not None and loaded.lost:
        loaded = _restored(space, loaded, directory)
    bad, broken, packs = _check_all(space, loaded, progress)
    repaired: frozenset[str] = frozenset()
    if directory is not None and broken:
        repaired = _repair(counting, namespace, directory, {loaded.view.live[name].pack.name for name in broken})
        # What was stored again is read, too, before it counts.
        loaded = space.load()
        live = loaded.view.live
        again = {pack: [e for e in entries if e.name in repaired] for pack, entries in _by_pack(live).items()}
        for pack, entries in again.items():
            if entries and not check_pack(space, pack, entries):
                for entry in entries:
                    broken.pop(entry.name, None)
    dropped = 0
    if drop_bad and (broken or loaded.lost):
        dropped = _drop(space, loaded, set(broken), accept_loss=accept_loss)
    bad += broken.values()
    return VerifyResult(
        len(loaded.view.live) - len(broken),
        len(packs),
        sum(pack.size for pack in packs),
        tuple(sorted(bad)),
        dropped,
        counting.requests,
        time.monotonic() - started,
        len(repaired),
    )


def _by_pack(live: Mapping[str, Entry]) -> dict[PackRef, list[Entry]]:
    by_pack: dict[PackRef, list[Entry]] = {}
    for entry in live.values():
        by_pack.setdefault(entry.pack, []).append(entry)
    return by_pack


def _check_all(
    space: Namespace, loaded: Loaded, progress: Progress | None
) -> tuple[list[str], dict[str, str], list[PackRef]]:
    """Return lines for what of the index is bad, the bad entries with what is wrong, and all packs."""
    by_pack = _by_pack(loaded.view.live)
    if progress:
        progress.start(sum(pack.size for pack in by_pack))
    broken: dict[str, str] = {}
    lock = threading.Lock()

    def one(item: tuple[PackRef, list[Entry]]) -> None:
        pack, entries = item
        found: Mapping[str, str] = {}
        for _ in range(_READS):
            found = check_pack(space, pack, entries)
            if not found:
                break
        with lock:
            broken.update(found)
        if progress:
            progress.advance(pack.size)

    map_parallel(one, by_pack.items(), _THREADS)
    return [f"{name}: missing or damaged" for name in loaded.lost], broken, list(by_pack)


def _restored(space: Namespace, loaded: Loaded, directory: Path) -> Loaded:
    """Store lost index segments again that this machine has kept, and read the namespace anew."""
    state = loaded.view.head.state
    missing = [("index", ref.object) for ref in state.segments]
    missing += [("sets", state.sets)] if state.sets is not None else []
    lost = [(folder, ref) for folder, ref in missing if space.object(folder, ref.name) in loaded.lost]
    keeping = Namespace(space.store, space.namespace, segments_folder(directory))
    return space.load() if keeping.restore(lost) else loaded


def _repair(store: Store, namespace: str, directory: Path, packs: Collection[str]) -> frozenset[str]:
    """Push what a cache directory has of the entries in some packs, as if these packs were gone."""
    Namespace(store, namespace, segments_folder(directory)).quarantine(packs)
    return push(store, namespace, directory, since=_NEVER, good=False, checkpoint=True).pushed


def check_pack(space: Namespace, pack: PackRef, entries: Sequence[Entry]) -> Mapping[str, str]:
    """Check a pack and these entries of it; return what is wrong by entry name (all of them for a bad pack)."""
    where = space.object("packs", pack.name)
    try:
        if entries[0].section.codec is Codec.BARE:
            _check_bare(space, where, entries[0])
            return {}
        data, _ = space.store.read(where, length=pack.size + 1)
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


def _check_bare(space: Namespace, where: str, entry: Entry) -> None:
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY) as folder:
        path = Path(folder) / "entry"
        check_size(space, entry.pack)
        space.store.read_file(where, path)
        checked = check_file(path, entry.name)
    if (checked.sha256, checked.content, checked.kind) != (entry.pack.sha256, entry.slot.content, entry.kind):
        raise CorruptError.of(where, "the entry is not the one that the index says")


def _drop(space: Namespace, loaded: Loaded, broken: set[str], *, accept_loss: bool) -> int:
    """Write a state without the broken entries (what took a broken one's name meanwhile stays)."""
    bad = {loaded.view.live[name] for name in broken}
    dropped = 0

    def change(current: Loaded) -> Next | None:
        nonlocal dropped
        if current.lost and not accept_loss:
            raise unreadable(current, current.lost)
        live = current.view.live
        kept = [entry for entry in live.values() if entry not in bad]
        dropped = len(live) - len(kept)
        refs, rows = space.write_segments(kept)
        uses = carry_uses(current.view, refs, rows)
        history = (*current.view.head.history, current.view.head.state)[-HISTORY_MAX:]
        return Next(NamespaceState(0, space.now(), "", "verify", refs, uses), rows, history=history)

    space.commit(loaded, change, accept_loss=accept_loss)
    return dropped
