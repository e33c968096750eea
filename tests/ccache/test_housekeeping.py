"""Checkpoints, prune, rollback, stats."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from imagetiers.ccache.checkpoint import Checkpointer
from imagetiers.ccache.local import scan
from imagetiers.ccache.prune import GRACE_MIN, PruneOptions, PruneResult, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import PushOutcome, PushResult, push
from imagetiers.ccache.rollback import rollback
from imagetiers.ccache.stats import stats
from imagetiers.ccache.verify import verify
from imagetiers.errors import NotFoundError, UnavailableError
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.faults import FaultyStore
from tests.ccache.synthetic import entries_in, make_directory
from tests.waiting import PATIENCE

NEVER = 1 << 62  # a start of the build after which nothing was used
GRACE = PruneOptions(grace=GRACE_MIN, keep_history=0)


def touch(directory: Path, names: list[str]) -> None:
    for name, file in scan(directory).items():
        if name in names:
            os.utime(file.path)


def everything(store: DirectoryStore, folder: Path) -> dict[str, bytes]:
    assert pull(store, ["main"], folder, everything=True).quarantined == ()
    return entries_in(folder)


# checkpoints


def test_checkpoints_while_a_compile_runs(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    made = make_directory(a, 10)
    lines: list[str] = []
    pushed = threading.Event()

    def do(*, good: bool, checkpoint: bool) -> PushResult:
        result = push(store, "main", a, good=good, checkpoint=checkpoint)
        pushed.set()
        return result

    with Checkpointer(do, interval=1000, report=lines.append) as checkpoints:
        checkpoints.now()
        assert pushed.wait(20)
        assert everything(store, tmp_path / "b") == made
        more = make_directory(a, 10, seed=1)
        report = checkpoints.close(good=True)
    assert (report.checkpoints, report.failures) == (1, ())
    assert report.final is not None
    assert report.final.pushed == frozenset(more)
    assert everything(store, tmp_path / "b") == made | more
    assert [line.split(":")[0] for line in lines] == ["checkpoint", "push"]


def test_checkpoints_come_by_themselves(tmp_path: Path) -> None:
    calls = threading.Semaphore(0)

    def do(*, good: bool, checkpoint: bool) -> PushResult:
        assert not good
        calls.release()
        return PushResult(PushOutcome.NOTHING_NEW if checkpoint else PushOutcome.PUSHED)

    with Checkpointer(do, interval=0.01):
        for _ in range(3):
            assert calls.acquire(timeout=PATIENCE)
    assert tmp_path.exists()


def test_no_failure_of_a_push_reaches_the_compile() -> None:
    def fails(*, good: bool, checkpoint: bool) -> PushResult:  # noqa: ARG001
        raise UnavailableError.of("gs://x", "503") if checkpoint else ZeroDivisionError("a bug")

    tried = threading.Event()
    made = Checkpointer(fails, interval=0.01, report=lambda _: tried.set())

    def compile_() -> None:
        with made:
            assert tried.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_()
    report = made.close(good=True)
    assert (report.final, report.checkpoints) == (None, 0)
    assert report.failures[0] == "checkpoint failed: gs://x: 503"
    assert report.failures[-1] == "push failed: ZeroDivisionError: a bug"


def test_an_interrupted_compile_is_not_a_good_one(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 3)

    def do(*, good: bool, checkpoint: bool) -> PushResult:
        return push(store, "main", tmp_path / "a", good=good, checkpoint=checkpoint)

    with Checkpointer(do, interval=1000):
        pass
    assert list(stats(store, "main").uses) == [("default", "partial")]


# prune


def test_old_entries_go_and_packs_only_after_the_grace_period(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    old = make_directory(a, 30, seed=1)
    push(store, "main", a, since=NEVER)
    new = make_directory(tmp_path / "n", 30, seed=2)
    touch(tmp_path / "n", list(new))
    push(store, "main", tmp_path / "n", since=NEVER)
    reader_saw = everything(store, tmp_path / "before")
    assert reader_saw == old | new
    now = time.time()
    options = PruneOptions(max_age=3600, grace=GRACE_MIN, keep_history=0)
    dry = prune(store, "main", options, dry_run=True, clock=lambda: now)
    assert everything(store, tmp_path / "still") == old | new
    first = prune(store, "main", options, clock=lambda: now)
    assert (dry.dropped, dry.entries, dry.retired) == (first.dropped, first.entries, first.retired)
    assert first.deleted == 0
    assert everything(store, tmp_path / "b") == new
    packs = len(list(store.list("ccache/main/packs/")))
    assert prune(store, "main", GRACE, clock=lambda: now + GRACE_MIN - 1).deleted == 0
    last = prune(store, "main", GRACE, clock=lambda: now + GRACE_MIN + 1)
    assert last.deleted >= 1
    assert len(list(store.list("ccache/main/packs/"))) < packs
    assert verify(store, "main").ok
    assert everything(store, tmp_path / "c") == new


def test_what_a_working_set_names_was_used_when_it_was_recorded(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 10)  # mtimes of long ago
    push(store, "main", tmp_path / "a")
    assert prune(store, "main", PruneOptions(max_age=3600, grace=GRACE_MIN)).dropped == 0
    assert everything(store, tmp_path / "b") == made


def test_the_least_recently_used_go_until_it_fits(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    made = make_directory(a, 100, manifests=0.0)
    push(store, "main", a, since=NEVER)
    total = stats(store, "main").live_bytes
    start = time.time_ns()
    touch(a, latest := list(made)[:10])
    push(store, "main", a, since=start)
    result = prune(store, "main", PruneOptions(max_bytes=total // 2, grace=GRACE_MIN, keep_history=0))
    found = everything(store, tmp_path / "b")
    assert found.keys() >= set(latest)
    assert 0 < len(found) == result.entries < 100
    assert stats(store, "main").live_bytes <= total // 2


def test_a_mostly_dead_pack_is_compacted(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    made = make_directory(a, 100)
    push(store, "main", a, since=NEVER)
    start = time.time_ns()
    touch(a, kept := list(made)[::10])
    push(store, "main", a, since=start)
    options = PruneOptions(max_age=3600, grace=GRACE_MIN, keep_history=0)
    result = prune(store, "main", options)
    assert (result.compacted, result.dropped) == (1, 90)
    assert everything(store, tmp_path / "b") == {name: made[name] for name in kept}
    assert verify(store, "main").ok
    prune(store, "main", GRACE, clock=lambda: time.time() + GRACE_MIN + 60)
    assert stats(store, "main").other_objects == 0
    assert everything(store, tmp_path / "c") == {name: made[name] for name in kept}
    assert push(store, "main", a).entries == 90


def test_leftovers_of_a_killed_push_go_after_the_grace_period(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 5)
    push(store, "main", tmp_path / "a")
    name = f"ccache/main/packs/{'ab' * 32}-{'0' * 16}"
    store.write(name, b"left behind")
    prune(store, "main", GRACE)
    assert store.stat(name) is not None
    prune(store, "main", GRACE, clock=lambda: time.time() + GRACE_MIN + 60)
    assert store.stat(name) is None
    assert everything(store, tmp_path / "b") == made


def pruned_before_the_head(
    store: DirectoryStore, tmp_path: Path
) -> tuple[dict[str, bytes], FaultyStore, list[PruneResult]]:
    """Make entries in tmp_path/a, and a store in which a prune runs just before a push writes its head."""
    make_directory(tmp_path / "x", 1, seed=9)
    push(store, "main", tmp_path / "x")
    made = make_directory(tmp_path / "a", 20)
    slow = FaultyStore(store)
    done: list[PruneResult] = []

    def between(verb: str, name: str) -> None:
        if verb == "write" and name.endswith("/head") and not done:
            done.append(prune(store, "main", GRACE))

    slow.hook = between
    return made, slow, done


def test_a_pack_that_comes_into_use_again_is_not_deleted(store: DirectoryStore, tmp_path: Path) -> None:
    """A push uploads, a prune notes its packs, the push commits, the grace period passes: nothing may go."""
    made, slow, done = pruned_before_the_head(store, tmp_path)
    assert push(slow, "main", tmp_path / "a").entries == 20
    assert done[0].retired >= 1
    prune(store, "main", GRACE, clock=lambda: time.time() + GRACE_MIN + 60)
    assert everything(store, tmp_path / "b").items() >= made.items()


def test_a_push_that_meets_a_prune_loses_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    old = make_directory(tmp_path / "a", 20)
    push(store, "main", tmp_path / "a")
    new = make_directory(tmp_path / "b", 20, seed=1)
    racing = FaultyStore(store)
    done: list[PushResult] = []

    def between(verb: str, name: str) -> None:
        if verb == "write" and name.endswith("/head") and not done:
            done.append(push(store, "main", tmp_path / "b"))

    racing.hook = between
    prune(racing, "main", PruneOptions(grace=GRACE_MIN, max_age=10**9))
    assert everything(store, tmp_path / "c") == old | new


def test_too_short_a_grace_period_is_refused(store: DirectoryStore) -> None:
    with pytest.raises(ValueError, match="grace period"):
        prune(store, "main", PruneOptions(grace=60))


def test_a_namespace_that_does_not_exist(store: DirectoryStore, tmp_path: Path) -> None:
    assert prune(store, "main").entries == 0
    assert verify(store, "main").ok
    assert stats(store, "main").sequence == 0
    assert pull(store, ["main"], tmp_path / "b").entries == 0
    with pytest.raises(NotFoundError):
        rollback(store, "main")


# rollback, stats


def test_rollback_and_forth(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    first = make_directory(a, 10)
    push(store, "main", a)
    both = first | make_directory(a, 10, seed=1)
    push(store, "main", a)
    assert (rollback(store, "main").restored, stats(store, "main").sequence) == (1, 3)
    assert everything(store, tmp_path / "b") == first
    assert rollback(store, "main", to=2).sequence == 4
    assert everything(store, tmp_path / "c") == both
    assert [state[0] for state in stats(store, "main").history] == [1, 2, 3]
    with pytest.raises(NotFoundError, match="1, 2, 3"):
        rollback(store, "main", to=99)


def test_what_a_rollback_needs_outlives_a_prune(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    made = make_directory(a, 20)
    push(store, "main", a, since=NEVER)
    start = time.time_ns()
    touch(a, list(made)[:2])
    push(store, "main", a, since=start)
    options = PruneOptions(max_age=3600, grace=GRACE_MIN, keep_history=2)
    assert prune(store, "main", options).dropped == 18
    kept = stats(store, "main").history
    unlimited = PruneOptions(grace=GRACE_MIN, keep_history=2)
    assert prune(store, "main", unlimited, clock=lambda: time.time() + GRACE_MIN + 60).deleted == 0
    rollback(store, "main", to=kept[0][0])
    assert everything(store, tmp_path / "b") == made


def test_stats_add_up(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 60)
    result = push(store, "main", tmp_path / "a", step="torch")
    found = stats(store, "main")
    assert found.results + found.manifests == 60
    assert found.entry_bytes == sum(map(len, made.values())) == result.entry_bytes
    assert (found.packs, found.pack_bytes, found.segments) == (1, result.stored_bytes, 1)
    assert found.live_bytes <= found.pack_bytes
    assert (found.other_objects, found.retired, found.lost) == (0, 0, ())
    assert found.uses["torch", "good"].count == 60


def test_a_pack_that_was_in_use_again_gets_a_grace_period_of_its_own(store: DirectoryStore, tmp_path: Path) -> None:
    """Noted while its push was under way, used, dropped much later: readers of the last head still have their time."""
    made, slow, _ = pruned_before_the_head(store, tmp_path)
    assert push(slow, "main", tmp_path / "a", since=NEVER).pushed == frozenset(made)
    now = time.time()
    aged = PruneOptions(max_age=0.0, grace=GRACE_MIN, keep_history=0)
    dropped = prune(store, "main", aged, clock=lambda: now + 2 * GRACE_MIN)
    assert dropped.dropped >= len(made)
    packs = {blob.name for blob in store.list("ccache/main/packs/")}
    assert len(packs) == 2
