"""Branches end, and so do their namespaces: nothing of one stays for ever, and a push that comes late loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagetiers.ccache.prune import PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.remove import remove_if_empty
from imagetiers.ccache.rollback import rollback
from imagetiers.operations.ccache import prune_report
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.faults import FaultyStore
from tests.ccache.synthetic import entries_in, make_directory
from tests.soak.memory import MemoryStore

DAY = 86_400.0
MONTH = PruneOptions(max_age=30 * DAY)


class Clock:
    def __init__(self) -> None:
        self.now = 1_900_000_000.0  # the entries of these tests are made in the years before

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dead(clock: Clock, tmp_path: Path) -> MemoryStore:
    """A namespace that was pushed to a few times, each time with other entries."""
    store = MemoryStore(clock)
    for number in range(4):
        make_directory(tmp_path / "a", 10, seed=number)
        push(store, "untrusted.x", tmp_path / "a")
        clock.now += 3600
    return store


def names(store: MemoryStore) -> set[str]:
    return {name.removeprefix("ccache/untrusted.x/") for name in store.names()}


def test_nothing_of_a_dead_namespace_stays(dead: MemoryStore, clock: Clock) -> None:
    for _ in range(40):
        clock.now += 5 * DAY
        text = prune_report(dead, "untrusted.x", MONTH, dry_run=False, accept_loss=False).text
        if "removed, for nothing was left of it" in text:
            break
    assert names(dead) == set()


def test_killed_between_its_two_deletions_the_next_one_ends_it(dead: MemoryStore, clock: Clock) -> None:
    empty(dead, clock)
    dead.delete("ccache/untrusted.x/head")
    prune_report(dead, "untrusted.x", MONTH, dry_run=False, accept_loss=False)
    assert names(dead) == set()


def test_what_a_prune_has_dropped_can_be_had_back_for_as_long_as_it_is_young(
    dead: MemoryStore, clock: Clock, tmp_path: Path
) -> None:
    """Also by the first prune after a year, and none of a state that is needed goes."""
    clock.now += 365 * DAY
    prune(dead, "untrusted.x", MONTH)
    clock.now += 20 * DAY
    prune(dead, "untrusted.x", MONTH)
    assert rollback(dead, "untrusted.x").entries == 40
    pull(dead, ["untrusted.x"], tmp_path / "b", everything=True)
    assert entries_in(tmp_path / "b") == entries_in(tmp_path / "a")


def empty(store: MemoryStore, clock: Clock) -> None:
    for _ in range(40):
        clock.now += 5 * DAY
        prune(store, "untrusted.x", MONTH)
    assert names(store) == {"head", "clock"}


def a_whole_push(store: MemoryStore, folder: Path) -> None:
    push(store, "untrusted.x", folder)


def only_its_packs(store: MemoryStore, _folder: Path) -> None:
    store.write(f"ccache/untrusted.x/packs/{'ab' * 32}-{'0' * 16}", b"of a push that goes on")


@pytest.mark.parametrize("verb", ["list", "delete"])
@pytest.mark.parametrize("meanwhile", [a_whole_push, only_its_packs])
def test_a_push_that_comes_between_loses_nothing(
    dead: MemoryStore, clock: Clock, tmp_path: Path, verb: str, meanwhile: Callable[[MemoryStore, Path], None]
) -> None:
    empty(dead, clock)
    made = make_directory(tmp_path / "c", 10)
    racing = FaultyStore(dead)
    came: list[str] = []

    def hook(called: str, name: str) -> None:
        if called == verb and (verb != "delete" or name.endswith("/head")) and not came:
            came.append(name)
            meanwhile(dead, tmp_path / "c")

    racing.hook = hook
    removed = remove_if_empty(racing, "untrusted.x")
    assert came
    assert removed == (verb == "delete" and meanwhile is only_its_packs)
    push(dead, "untrusted.x", tmp_path / "c")
    pull(dead, ["untrusted.x"], tmp_path / "d", everything=True)
    assert entries_in(tmp_path / "d") == made


def test_a_push_whose_namespace_is_removed_meanwhile(dead: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    """It has read the empty head, and its packs are not there yet when it goes."""
    empty(dead, clock)
    made = make_directory(tmp_path / "c", 10)
    racing = FaultyStore(dead)

    def hook(called: str, name: str) -> None:
        if called == "write" and "/packs/" in name:
            racing.hook = None
            assert remove_if_empty(dead, "untrusted.x")

    racing.hook = hook
    assert push(racing, "untrusted.x", tmp_path / "c").entries == 10
    pull(dead, ["untrusted.x"], tmp_path / "d", everything=True)
    assert entries_in(tmp_path / "d") == made


def test_a_namespace_with_anything_in_it_stays(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    assert not remove_if_empty(store, "main")
    make_directory(tmp_path / "a", 5)
    push(store, "main", tmp_path / "a")
    assert not remove_if_empty(store, "main")
    assert len(list(store.list("ccache/main/"))) == 3
