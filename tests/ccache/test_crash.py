"""Death and faults at every single store call of a push, a pull and a prune: all of them, not samples."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from imagetiers.ccache.local import scan
from imagetiers.ccache.prune import GRACE_MIN, PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import PushOutcome, push
from imagetiers.ccache.verify import verify
from imagetiers.errors import ForbiddenError, PreconditionError, UnavailableError
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.faults import FaultyStore, Killed
from tests.ccache.synthetic import entries_in, make_directory, make_entry, make_name, put_entry

STEPS_MAX = 60
HERE = Path(__file__).parent


def prepared(tmp_path: Path) -> tuple[DirectoryStore, dict[str, bytes], dict[str, bytes]]:
    """A store with 20 entries, and a directory `a` with these, 12 new ones and a rewritten manifest."""
    store = DirectoryStore(tmp_path / "store")
    old = make_directory(tmp_path / "a", 20)
    name = make_name(500, 1)
    put_entry(tmp_path / "a", name, make_entry(b"old", kind=1, created=1))
    old[name] = make_entry(b"old", kind=1, created=1)
    push(store, "main", tmp_path / "a")
    new = old | make_directory(tmp_path / "a", 12, seed=1)
    put_entry(tmp_path / "a", name, make_entry(b"new", kind=1, created=2))
    new[name] = make_entry(b"new", kind=1, created=2)
    return store, old, new


def restored(store: DirectoryStore, folder: Path) -> dict[str, bytes]:
    result = pull(store, ["main"], folder, everything=True)
    assert result.quarantined == ()
    return entries_in(folder)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_push_killed_at_any_call_leaves_the_old_state_or_the_new_one(tmp_path: Path, *, after: bool) -> None:
    step = 0
    while True:
        step += 1
        assert step < STEPS_MAX
        folder = tmp_path / str(step)
        store, old, new = prepared(folder)
        dying = FaultyStore(store, at=step, after=after)
        try:
            result = push(dying, "main", folder / "a")
        except Killed:
            found = restored(store, folder / "b")
            assert found in (old, new)
            assert verify(store, "main").ok
            push(store, "main", folder / "a")
            assert restored(store, folder / "c") == new
            continue
        assert result.outcome is PushOutcome.PUSHED
        assert len(dying.calls) < step
        assert step >= 5
        return


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "fault",
    [
        lambda: UnavailableError.of("x", "503 after all retries"),
        lambda: PreconditionError.of("x", "412"),
        lambda: ForbiddenError.of("x", "403"),
    ],
    ids=["unavailable", "precondition", "forbidden"],
)
def test_a_fault_at_any_call_of_a_push(tmp_path: Path, fault: Callable[[], BaseException], *, after: bool) -> None:
    """412 after the commit is a lost answer: the push must see that it has won."""
    step = 0
    while True:
        step += 1
        assert step < STEPS_MAX
        folder = tmp_path / str(step)
        store, old, new = prepared(folder)
        faulty = FaultyStore(store, at=step, fault=fault, after=after, dead=False)
        try:
            result = push(faulty, "main", folder / "a")
        except (UnavailableError, PreconditionError, ForbiddenError):
            assert restored(store, folder / "b") in (old, new)
            continue
        found = restored(store, folder / "b")
        assert found == new if result.outcome is PushOutcome.PUSHED else found in (old, new)
        assert result.outcome in (PushOutcome.PUSHED, PushOutcome.NOTHING_NEW, PushOutcome.READ_ONLY)
        if len(faulty.calls) < step:
            return


def test_a_pull_killed_at_any_call_leaves_whole_entries_and_the_next_goes_on(tmp_path: Path) -> None:
    store, _, new = prepared(tmp_path)
    push(store, "main", tmp_path / "a")
    step = 0
    while True:
        step += 1
        assert step < STEPS_MAX
        folder = tmp_path / f"pulled{step}"
        dying = FaultyStore(store, at=step)
        try:
            pull(dying, ["main"], folder)
        except Killed:
            assert entries_in(folder).items() <= new.items()
            assert list(folder.rglob("*.tmp.*")) == []
            pull(store, ["main"], folder)
            assert entries_in(folder) == new
            continue
        assert step > 3
        return


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_prune_killed_at_any_call_loses_nothing_that_is_to_stay(tmp_path: Path, *, after: bool) -> None:
    retiring = PruneOptions(max_age=1000.0, grace=GRACE_MIN, keep_history=0)
    deleting = PruneOptions(grace=GRACE_MIN, keep_history=0)
    step = 0
    while True:
        step += 1
        assert step < STEPS_MAX
        folder = tmp_path / str(step)
        store = DirectoryStore(folder / "store")
        make_directory(folder / "a", 30)
        push(store, "main", folder / "a", since=1 << 62)
        for name in (kept := dict(list(entries_in(folder / "a").items())[::4])):
            os.utime(scan(folder / "a")[name].path)
        start = time.time_ns() - 10**9
        push(store, "main", folder / "a", since=start)
        later = time.time() + 600
        prune(store, "main", retiring, clock=partial(float, later))  # retires
        dying = FaultyStore(store, at=step, after=after)
        try:
            prune(dying, "main", deleting, clock=partial(float, later + 7210))
        except Killed:
            assert restored(store, folder / "b") == kept
            assert verify(store, "main").ok
            continue
        assert step > 3
        return


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [os.getcwd(), sys.argv[4]]
from imagetiers.ccache.push import push
from imagetiers.stores.directory import DirectoryStore
from faults import FaultyStore

store = FaultyStore(DirectoryStore(Path(sys.argv[1])))
def die(verb, name):
    if len(store.calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
store.hook = die
push(store, "main", Path(sys.argv[2]))
"""


def test_kill_9_at_every_call_of_a_push_in_a_process_of_its_own(tmp_path: Path) -> None:
    for step in range(1, STEPS_MAX):
        folder = tmp_path / str(step)
        store, old, new = prepared(folder)
        command = [sys.executable, "-c", CHILD, str(folder / "store"), str(folder / "a"), str(step), str(HERE)]
        done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, check=False)
        found = restored(store, folder / "b")
        if done.returncode == 0:
            assert found == new
            assert step >= 5
            return
        assert done.returncode == -9, done.stderr
        assert found in (old, new)
    pytest.fail("never came to an end")
