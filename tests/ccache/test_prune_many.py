"""What prune does with many entries: how much memory that takes, and how many are moved at a time."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from imagetiers.ccache import prune as prune_module
from imagetiers.ccache.apart import Report, apart
from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.format.head import NamespaceState, Use
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.merge import make_use
from imagetiers.ccache.format.pack import Codec, PackRef, SectionRef, Slot
from imagetiers.ccache.namespace import Namespace, Next
from imagetiers.ccache.prune import PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.verify import verify
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.synthetic import entries_in, make_directory
from tests.ccache.test_housekeeping import GRACE, NEVER, touch

DAY = 86_400.0
A_PACK = 270


def listed(first: int, count: int, now: float) -> Iterator[Entry]:
    """Entries of packs that nobody reads: every tenth was used 40 days ago, the others today."""
    for number in range(first, first + count):
        if number == first or number % A_PACK == 0:
            name = f"{hashlib.sha256(b'%d' % number).hexdigest()}-{'0' * 16}"
            pack = PackRef(name, A_PACK * 31_000)
            section = SectionRef(Codec.VERBATIM, Kind.RESULT, A_PACK, 100, A_PACK * 30_000, A_PACK * 30_000)
        at = now - (40 * DAY if number % 10 == 0 else 0)
        digest = hashlib.sha256(b"%d" % number).digest()
        slot = Slot(digest[:20].hex(), number % A_PACK * 30_000, 30_000, 30_000, digest[16:], int(at), int(at * 1e9))
        yield Entry(slot, section, pack)


def prune_listed(folder: Path) -> Report:
    done = prune(DirectoryStore(folder), "main", PruneOptions(max_age=30 * DAY))
    return Report(f"{done.entries} {done.dropped}")


def test_of_others_two_million_entries_have_room(store: DirectoryStore) -> None:
    """In 256 MiB: so few for 300,000 that two million have room in 1.25 GiB, for Python itself needs some 90.

    With four working sets at random, and three earlier states.
    """
    count, more, now = 300_000, 1_000, time.time()
    space = Namespace(store, "main")
    loaded = space.load()
    refs, rows = space.write_segments(listed(0, count, now))
    draw = random.Random(1)
    uses: dict[tuple[str, str], Use] = {}
    for number in range(4):
        refs_more, rows_more = space.write_segments(listed(count + number * more, more, now))
        refs, rows = refs + refs_more, rows + rows_more
        names = [name for some in rows for name in some.names if draw.random() < 0.5]
        uses = {**uses, (f"step-{number}", "good"): make_use(refs, rows, names, now - 40 * DAY)}
        following = Next(NamespaceState(0, now, "", "push", refs, uses), rows)
        loaded = space.commit(loaded, lambda _, following=following: following)  # type: ignore[misc]
    assert len(loaded.view.head.history) == 3
    done = apart("untrusted.x", partial(prune_listed, store.root), memory=0)
    every = count + 4 * more
    assert done.text == f"{every - every // 10} {every // 10}"


def test_what_one_prune_has_no_memory_for_is_compacted_by_the_next(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = tmp_path / "a"
    left: dict[str, bytes] = {}
    for number, kept in enumerate((3, 1, 2)):
        made = make_directory(a, 30, seed=number)
        push(store, "main", a, since=NEVER)
        left |= dict(list(made.items())[:kept])
    start = time.time_ns()
    touch(a, list(left))
    push(store, "main", a, since=start)
    monkeypatch.setattr(prune_module, "_COMPACT_ENTRIES", 3)
    options = PruneOptions(max_age=DAY, keep_history=0, grace=GRACE.grace)
    compacted = []
    for _ in range(4):
        compacted.append(prune(store, "main", options).compacted)
        restored = tmp_path / f"b{len(compacted)}"
        assert pull(store, ["main"], restored, everything=True).quarantined == ()
        assert entries_in(restored) == left
    assert compacted[0] in (1, 2)
    assert (sum(compacted), compacted[-1]) == (3, 0)
    assert verify(store, "main").ok
