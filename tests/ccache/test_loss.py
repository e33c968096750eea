"""No state is written from a lossy view: what one read did not give is not absent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from imagetiers.ccache import namespace as ccache_space
from imagetiers.ccache.namespace import Namespace
from imagetiers.ccache.prune import GRACE_MIN, PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.rollback import rebuild, rollback
from imagetiers.ccache.stats import stats
from imagetiers.ccache.verify import verify
from imagetiers.errors import CorruptError, NotFoundError, StoreError
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.faults import FaultyStore
from tests.ccache.synthetic import entries_in, make_directory

GRACE = PruneOptions(grace=GRACE_MIN)


class LossyStore(FaultyStore):
    """Reads of some objects fail, or give one bit wrong, the next `times` times."""

    def __init__(self, store: DirectoryStore, part: str, *, times: int, flip: bool = False) -> None:
        super().__init__(store)
        self.part, self.times, self.flip = part, times, flip

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        data, generation = super().read(name, start=start, length=length)
        if self.part in name and self.times > 0:
            self.times -= 1
            if not self.flip:
                raise NotFoundError.of(name, "no such object")
            changed = bytearray(data)
            changed[len(changed) // 2] ^= 4
            return bytes(changed), generation
        return data, generation


def everything(store: DirectoryStore, folder: Path) -> dict[str, bytes]:
    shutil.rmtree(folder, ignore_errors=True)
    assert pull(store, ["main"], folder, everything=True).quarantined == ()
    return entries_in(folder)


def filled(store: DirectoryStore, tmp_path: Path) -> dict[str, bytes]:
    """Two segments: the older one is more than twice as large as the newer."""
    made = make_directory(tmp_path / "a", 60)
    push(store, "main", tmp_path / "a")
    made |= make_directory(tmp_path / "a", 8, seed=1)
    push(store, "main", tmp_path / "a")
    assert stats(store, "main").segments == 2
    return made


def fresh_push(store: FaultyStore, tmp_path: Path) -> object:
    make_directory(tmp_path / "fresh", 30, seed=9)
    return push(store, "main", tmp_path / "fresh")


WRITERS: dict[str, Callable[[FaultyStore, Path], object]] = {
    "prune": lambda store, _: prune(store, "main", GRACE),
    "push": fresh_push,
    "checkpoint": lambda store, path: push(store, "main", path / "a", checkpoint=True, step="other"),
    "drop-bad": lambda store, _: verify(store, "main", drop_bad=True),
    "rollback": lambda store, _: rollback(store, "main"),
    "rebuild": lambda store, _: rebuild(store, "main"),
}


@pytest.mark.parametrize("flip", [False, True], ids=["404", "flipped bit"])
@pytest.mark.parametrize("times", [1, 1000], ids=["once", "always"])
@pytest.mark.parametrize("part", ["/index/", "/packs/", "/head"])
@pytest.mark.parametrize("writer", WRITERS)
def test_no_writer_lets_go_of_what_it_could_not_read(
    store: DirectoryStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
    part: str,
    times: int,
    *,
    flip: bool,
) -> None:
    monkeypatch.setattr(ccache_space, "_LONGEST_PAUSE", 0.001)
    made = filled(store, tmp_path)
    shutil.rmtree(tmp_path / "a" / "imagetiers")
    lossy = LossyStore(store, part, times=times, flip=flip)
    done = False
    try:
        WRITERS[writer](lossy, tmp_path)
        done = True
    except StoreError:
        assert times > 1 or part == "/head"
    # Whatever happened: when the store reads well again, nothing is missing, also when everything was noted and deleted.
    later = Namespace(store, "main").now() + 2 * GRACE_MIN
    prune(store, "main", GRACE, clock=lambda: later)
    prune(store, "main", GRACE, clock=lambda: later + 2 * GRACE_MIN)
    asked_for = writer == "rollback" or (writer == "drop-bad" and part == "/packs/" and times > 1)
    if done and asked_for:
        rollback(store, "main", to=2)  # not beyond recall
    assert everything(store, tmp_path / "b").items() >= made.items()


def test_the_loss_that_was_found_a_prune_that_emptied_the_namespace(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 20)
    push(store, "main", tmp_path / "a")
    with pytest.raises(CorruptError, match="cannot be read, so nothing is written: it lists 20 entries") as caught:
        prune(LossyStore(store, "/index/", times=1000), "main", GRACE)
    assert "--accept-loss" in str(caught.value)
    assert stats(store, "main").sequence == 1
    assert prune(LossyStore(store, "/index/", times=1), "main", GRACE).entries == 20
    assert everything(store, tmp_path / "b") == made


def test_a_loss_that_is_accepted_is_said_and_can_be_taken_back(store: DirectoryStore, tmp_path: Path) -> None:
    made = filled(store, tmp_path)
    older = Namespace(store, "main").load().view.head.state.segments[0].object.name
    away = store.read(f"ccache/main/index/{older}")[0]
    store.delete(f"ccache/main/index/{older}")
    result = prune(store, "main", GRACE, accept_loss=True)
    assert (result.entries, result.given_up) == (8, (f"ccache/main/index/{older}",))
    assert f"given up, for it cannot be read: ccache/main/index/{older}" in str(result)
    now = Namespace(store, "main").now()
    for days in (1, 2, 3):  # as long as the old state is in the history, nothing that it may need is deleted
        assert prune(store, "main", GRACE, clock=lambda days=days: now + days * 86_400).deleted == 0  # type: ignore[misc]
    store.write(f"ccache/main/index/{older}", away)
    rollback(store, "main", to=2)
    assert everything(store, tmp_path / "b") == made


def test_drop_bad_needs_the_loss_accepted(store: DirectoryStore, tmp_path: Path) -> None:
    filled(store, tmp_path)
    older = Namespace(store, "main").load().view.head.state.segments[0].object.name
    store.delete(f"ccache/main/index/{older}")
    with pytest.raises(CorruptError, match="it lists 60 entries"):
        verify(store, "main", drop_bad=True)
    assert len(verify(store, "main", drop_bad=True, accept_loss=True).bad) == 1
    assert verify(store, "main").ok
    assert len(stats(store, "main").history) == 2


def test_an_earlier_state_that_cannot_be_read_keeps_everything(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 20)
    push(store, "main", tmp_path / "a")
    (first,) = Namespace(store, "main").load().view.head.state.segments
    made |= make_directory(tmp_path / "a", 30, seed=1)
    push(store, "main", tmp_path / "a")
    later = Namespace(store, "main").now() + 10 * 86_400
    blind = LossyStore(store, first.object.name, times=1000)
    for days in (0, 1, 2):
        options = PruneOptions(max_age=3600.0, grace=GRACE_MIN)
        result = prune(blind, "main", options, clock=lambda days=days: later + days * 86_400)  # type: ignore[misc]
        assert (result.dropped, result.deleted, len(result.blocked)) == (0, 0, 1)
    assert everything(store, tmp_path / "b") == made
    rollback(store, "main", to=1)
    assert len(everything(store, tmp_path / "c")) == 20


def test_rebuild_refuses_what_it_cannot_read_and_then_gives_it_up(store: DirectoryStore, tmp_path: Path) -> None:
    made = filled(store, tmp_path)
    store.write("ccache/main/head", b"{")
    newer = min(store.list("ccache/main/index/"), key=lambda blob: blob.size)
    blind = LossyStore(store, newer.name, times=1000)
    with pytest.raises(CorruptError, match="cannot be read, so nothing is written"):
        rebuild(blind, "main")
    assert rebuild(blind, "main", accept_loss=True).skipped == (newer.name,)
    store.write("ccache/main/head", b"{")
    assert rebuild(store, "main").entries == len(made)
    assert everything(store, tmp_path / "b") == made


# heads above the bounds of their readers


def test_foreign_objects_are_left_alone_and_said(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 5)
    push(store, "main", tmp_path / "a")
    foreign = ["packs/notes.txt", "index/x", "packs/sub/y", "README", "sets/\u202egnp", "packs/" + "g" * 64]
    for name in foreign:
        store.write(f"ccache/main/{name}", b"mine")
    now = Namespace(store, "main").now()
    for days in (0, 2, 4):
        result = prune(store, "main", GRACE, clock=lambda days=days: now + days * 86_400)  # type: ignore[misc]
        assert sorted(result.foreign) == sorted(foreign)
    assert "left alone, for it is none of ours: 'README'" in str(result)
    assert str(result).isprintable() or "\u202e" not in str(result)
    assert all(store.stat(f"ccache/main/{name}") for name in foreign)
    assert everything(store, tmp_path / "b") == made


def test_rebuild_of_a_busy_namespace_makes_one_segment(store: DirectoryStore, tmp_path: Path) -> None:
    """Each push leaves an index object behind: 300 of them were more than a head may name."""
    made: dict[str, bytes] = {}
    space = Namespace(store, "main")
    for seed in range(300):
        some = make_directory(tmp_path / "a", 1, seed=seed, mean=100)
        made |= some
        if seed % 60 == 0:
            push(store, "main", tmp_path / "a")
        else:
            live = space.load().view.live
            space.write_segments(list(live.values()))
    push(store, "main", tmp_path / "a")
    assert len(list(store.list("ccache/main/index/"))) > 256
    store.write("ccache/main/head", b"{")
    assert rebuild(store, "main").entries == 300
    assert stats(store, "main").segments == 1
    assert everything(store, tmp_path / "b") == made


def test_rebuild_does_not_list_what_has_been_deleted(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 5)
    push(store, "main", tmp_path / "a")
    for blob in list(store.list("ccache/main/packs/")):
        store.delete(blob.name)
    made = make_directory(tmp_path / "b", 5, seed=1)
    push(store, "main", tmp_path / "b")
    store.write("ccache/main/head", b"{")
    assert rebuild(store, "main").entries == 5
    assert everything(store, tmp_path / "c") == made
