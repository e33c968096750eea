"""Push and pull over a real directory store."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from imagetiers.ccache import download as ccache_fetch
from imagetiers.ccache import namespace as ccache_space
from imagetiers.ccache import prune as ccache_prune
from imagetiers.ccache.format.fingerprint import Fingerprint
from imagetiers.ccache.local import recount, scan
from imagetiers.ccache.namespace import Namespace, namespace_name
from imagetiers.ccache.prune import prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import PushOutcome, PushResult, push
from imagetiers.ccache.rollback import rebuild
from imagetiers.ccache.workers import Room, Workers
from imagetiers.errors import ForbiddenError, NotFoundError, UnavailableError
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.faults import FaultyStore
from tests.ccache.synthetic import entries_in, make_directory, make_entry, make_name, put_entry
from tests.waiting import PATIENCE


def mtimes(directory: Path) -> dict[str, int]:
    return {name: file.mtime for name, file in scan(directory).items()}


@pytest.mark.parametrize("new", [True, False])
def test_what_is_pushed_comes_back_bit_for_bit(store: DirectoryStore, tmp_path: Path, *, new: bool) -> None:
    made = make_directory(tmp_path / "a", 300, new=new)
    result = push(store, "main", tmp_path / "a")
    assert (result.outcome, result.entries, result.pushed) == (PushOutcome.PUSHED, 300, frozenset(made))
    assert result.skipped == ()
    back = pull(store, ["main"], tmp_path / "b")
    assert (back.entries, back.present, back.quarantined) == (300, 0, ())
    assert entries_in(tmp_path / "b") == made
    assert mtimes(tmp_path / "b") == mtimes(tmp_path / "a")
    again = pull(store, ["main"], tmp_path / "b")
    assert (again.entries, again.present, again.fetched_bytes) == (0, 300, 0)


def test_entries_of_all_levels_and_both_schemes_and_nothing_else(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    made = {}
    for level in (2, 3, 4):
        for new in (True, False):
            name = make_name(level, new=new)
            made[name] = make_entry(b"level %d" % level)
            put_entry(a, name, made[name], level=level)
    for other in (
        "stats",
        "tmp/x",
        "lock/y",
        "a/CACHEDIR.TAG",
        "a/stats",
        f"a/b/{make_name(9)[2:]}.tmp.xyz",
        "ccache.conf",
    ):
        path = a / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_entry(b"no entry"))
    raw_files = make_name(50)
    put_entry(a, raw_files, make_entry(b"x", self_contained=False))
    (a / "a" / "b").mkdir(parents=True, exist_ok=True)
    (a / "a" / "b" / ("0" * 38)).symlink_to("/etc/passwd")
    (a / "f").mkdir(exist_ok=True)
    (a / "f" / "e").symlink_to(a / "a")
    result = push(store, "main", a)
    assert result.pushed == frozenset(made)
    assert [line.split(":")[0] for line in result.skipped] == [raw_files]
    pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == made


def test_an_entry_at_two_levels_is_the_one_that_ccache_reads(store: DirectoryStore, tmp_path: Path) -> None:
    name = make_name(1, 1)
    put_entry(tmp_path / "a", name, make_entry(b"deeper, so never read", kind=1), level=3)
    put_entry(tmp_path / "a", name, make_entry(b"read", kind=1), level=2)
    push(store, "main", tmp_path / "a")
    pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == {name: make_entry(b"read", kind=1)}


def test_a_warm_build_costs_at_most_three_requests(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 200)
    push(store, "main", tmp_path / "a")
    start = time.time_ns()
    for file in scan(tmp_path / "a").values():
        os.utime(file.path)
    warm = push(store, "main", tmp_path / "a", since=start)
    assert (warm.outcome, warm.entries, warm.used) == (PushOutcome.NOTHING_NEW, 0, 200)
    assert warm.requests <= 3
    fresh = tmp_path / "b"
    pull(store, ["main"], fresh)
    for kept in (fresh / "imagetiers" / "main").iterdir():
        kept.unlink()  # even without the segments that were kept here
    for file in scan(fresh).values():
        os.utime(file.path)
    assert push(store, "main", fresh, since=start).requests <= 4


def test_two_percent_cost_at_most_six_requests(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 600, mean=58_000, manifests=0.3)
    push(store, "main", tmp_path / "a")
    make_directory(tmp_path / "a", 240, seed=1, mean=58_000, manifests=0.3)
    changed = push(store, "main", tmp_path / "a")
    assert changed.entries == 240
    assert changed.requests <= 6


def test_a_manifest_is_pushed_again_when_it_was_rewritten_and_only_then(store: DirectoryStore, tmp_path: Path) -> None:
    name = make_name(1, 1)
    put_entry(tmp_path / "a", name, make_entry(b"first", kind=1, created=100))
    push(store, "main", tmp_path / "a")
    put_entry(tmp_path / "b", name, make_entry(b"second", kind=1, created=200))
    assert push(store, "main", tmp_path / "b").entries == 1
    assert push(store, "main", tmp_path / "a").entries == 0  # an older version never replaces a newer one
    assert pull(store, ["main"], tmp_path / "a").entries == 1  # but gives way to it
    assert entries_in(tmp_path / "a") == entries_in(tmp_path / "b")
    put_entry(tmp_path / "b", name, make_entry(b"third", kind=1, created=300))
    assert pull(store, ["main"], tmp_path / "b").entries == 0
    assert entries_in(tmp_path / "b") == {name: make_entry(b"third", kind=1, created=300)}


def test_two_versions_of_one_second_the_larger_wins(store: DirectoryStore, tmp_path: Path) -> None:
    name = make_name(1, 1)
    for body in (b"one", b"one, two", b"one, two, three"):
        put_entry(tmp_path / "a", name, make_entry(body, kind=1, created=100))
        assert push(store, "main", tmp_path / "a").entries == 1


def test_a_result_is_never_pushed_twice(store: DirectoryStore, tmp_path: Path) -> None:
    put_entry(tmp_path / "a", make_name(1), make_entry(b"first"))
    push(store, "main", tmp_path / "a")
    put_entry(tmp_path / "b", make_name(1), make_entry(b"as valid"))
    assert push(store, "main", tmp_path / "b").outcome is PushOutcome.NOTHING_NEW


def test_the_working_set_comes_first_and_the_rest_when_asked(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    old = make_directory(a, 50)
    push(store, "main", a, step="torch")
    start = time.time_ns()
    for name in list(old)[:5]:
        os.utime(scan(a)[name].path)
    push(store, "main", a, step="torch", since=start)
    used = make_directory(a, 30, seed=1)
    for name in used:
        os.utime(scan(a)[name].path)
    push(store, "main", a, step="torch", since=start)
    wanted = {**used, **dict(list(old.items())[:5])}
    pull(store, ["main"], tmp_path / "b", step="torch")
    assert entries_in(tmp_path / "b") == wanted
    pull(store, ["main"], tmp_path / "b", step="torch", everything=True)
    assert entries_in(tmp_path / "b") == {**old, **used}
    pull(store, ["main"], tmp_path / "c", step="never ran".replace(" ", "-"))
    assert entries_in(tmp_path / "c") == wanted  # all steps' working sets


def test_an_unfinished_run_adds_to_the_last_good_one(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    good = make_directory(a, 20)
    push(store, "main", a)
    start = time.time_ns()
    b = tmp_path / "b"
    parts: dict[str, bytes] = {}
    for seed in (1, 2):
        part = make_directory(b, 10, seed=seed)
        for name in part:
            os.utime(scan(b)[name].path)
        assert push(store, "main", b, since=start, checkpoint=True).entries == 10
        parts |= part
        for file in scan(b).values():
            Path(file.path).unlink()
    pull(store, ["main"], tmp_path / "c")
    assert entries_in(tmp_path / "c") == {**good, **parts}
    for name in good:
        os.utime(scan(a)[name].path)
    push(store, "main", a, since=start)
    pull(store, ["main"], tmp_path / "d")
    assert entries_in(tmp_path / "d") == good


def test_a_checkpoint_with_nothing_new_writes_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 5)
    first = push(store, "main", tmp_path / "a", checkpoint=True)
    second = push(store, "main", tmp_path / "a", checkpoint=True)
    assert (first.sequence, second.sequence, second.requests) == (1, 1, 1)


def test_a_branch_reads_through_to_its_parent(store: DirectoryStore, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    main = make_directory(a, 40)
    push(store, "main", a)
    assert pull(store, ["branch", "main"], b).sequences == {"branch": 0, "main": 1}
    assert entries_in(b) == main
    start = time.time_ns()
    own = make_directory(b, 6, seed=3)
    for file in scan(b).values():
        os.utime(file.path)
    result = push(store, "branch", b, since=start, parents=["main"])
    assert result.pushed == frozenset(own)
    pull(store, ["branch", "main"], tmp_path / "c")
    assert entries_in(tmp_path / "c") == {**main, **own}
    pull(store, ["main"], tmp_path / "d")
    assert entries_in(tmp_path / "d") == main


def test_what_a_parent_would_not_restore_is_pushed_to_the_branch(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    make_directory(a, 10)
    push(store, "main", a)
    start = time.time_ns()
    kept = next(iter(scan(a).values()))
    os.utime(kept.path)
    push(store, "main", a, since=start)
    assert push(store, "branch", a, parents=["main"]).entries == 9


def test_read_only_credentials_never_fail(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 30)
    refused = FaultyStore(store, at=1, verbs=("write", "delete"), fault=lambda: ForbiddenError.of("x", "403"))
    result = push(refused, "main", tmp_path / "a")
    assert result.outcome is PushOutcome.READ_ONLY
    assert "not pushed: read-only" in str(result)
    assert list(store.list()) == []


def test_no_answer_is_an_error(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 3)
    down = FaultyStore(store, at=1, fault=lambda: UnavailableError.of("x", "503"))
    with pytest.raises(UnavailableError):
        push(down, "main", tmp_path / "a")
    with pytest.raises(UnavailableError):
        pull(down, ["main"], tmp_path / "b")


def test_an_empty_or_unreadable_directory_pushes_nothing(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = FaultyStore(store, at=1)
    assert push(untouched, "main", tmp_path / "missing").outcome is PushOutcome.UNREADABLE
    (tmp_path / "empty" / "a" / "b").mkdir(parents=True)
    assert push(untouched, "main", tmp_path / "empty").outcome is PushOutcome.EMPTY
    make_directory(tmp_path / "a", 40)
    real = os.open
    broken = next(iter(scan(tmp_path / "a").values())).path.rpartition("/")[0]

    def fails(path: str, *how: int, **more: Any) -> int:
        if path == broken:
            raise PermissionError(13, "Permission denied", path)
        return real(path, *how, **more)

    monkeypatch.setattr(os, "open", fails)
    result = push(untouched, "main", tmp_path / "a")
    assert result.outcome is PushOutcome.UNREADABLE
    assert "Permission denied" in str(result)
    assert {verb for verb, _ in untouched.calls} <= {"read"}


def test_an_empty_file_is_skipped_and_said(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 10)
    name = make_name(1, new=False)
    put_entry(tmp_path / "a", name, b"")
    result = push(store, "main", tmp_path / "a")
    assert result.pushed == frozenset(made)
    assert [line.partition(":")[0] for line in result.skipped] == [name]


def test_a_truncated_entry_is_skipped_and_said(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 5)
    cut, short = make_name(100), make_name(101)
    put_entry(tmp_path / "a", cut, make_entry(b"x" * 5000)[:-30])
    put_entry(tmp_path / "a", short, b"")
    result = push(store, "main", tmp_path / "a")
    assert result.pushed == frozenset(made)
    assert sorted(line.split(":")[0] for line in result.skipped) == sorted([cut, short])


def test_large_entries_are_objects_of_their_own(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 5)
    large = make_name(7)
    made[large] = make_entry(random.Random(0).randbytes(7 << 20))
    put_entry(tmp_path / "a", large, made[large], mtime=77)
    assert push(store, "main", tmp_path / "a").packs == 2
    pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == made
    assert mtimes(tmp_path / "b")[large] == 77
    assert list((tmp_path / "a").rglob("*.tmp.*")) == []


def test_packs_stay_below_one_multipart_request(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 300, mean=90_000)
    result = push(store, "main", tmp_path / "a")
    sizes = [blob.size for blob in store.list("ccache/main/packs/")]
    assert max(sizes) <= 8 * 1024 * 1024
    assert result.packs == len(sizes)
    assert sum(sizes) / len(sizes) > 4 * 1024 * 1024


def test_few_entries_of_a_pack_are_fetched_by_ranges(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, wanted = scattered(store, tmp_path / "a", monkeypatch)
    result = pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == {name: made[name] for name in wanted}
    assert result.fetched_bytes < sum(len(data) for data in made.values()) / 4


def scattered(
    store: DirectoryStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, bytes], list[str]]:
    """Push entries of one pack, and a working set of a few that lie far from each other; return all and these."""
    monkeypatch.setattr(ccache_fetch, "GAP_MAX", 1000)
    made = make_directory(folder, 200, manifests=0.0)
    push(store, "main", folder)
    start = time.time_ns()
    wanted = list(made)[::25]
    for name in wanted:
        os.utime(scan(folder)[name].path)
    push(store, "main", folder, since=start)
    return made, wanted


def test_ranges_of_a_pack_are_fetched_side_by_side(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, wanted = scattered(store, tmp_path / "a", monkeypatch)
    together = threading.Barrier(4, timeout=PATIENCE)
    busy = FaultyStore(store)
    busy.hook = lambda _, name: together.wait() if "/packs/" in name else None
    assert len(wanted) == 8
    assert pull(busy, ["main"], tmp_path / "b").quarantined == ()
    assert entries_in(tmp_path / "b") == {name: made[name] for name in wanted}


def test_a_range_that_fails_leaves_nobody_who_writes_into_the_memory_of_others(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scattered(store, tmp_path / "a", monkeypatch)
    reading, left, numbers = set[int](), list[int](), count()
    busy = FaultyStore(store)

    def hook(_: str, name: str) -> None:
        if "/packs/" in name:
            number = next(numbers)
            if number % 8 == 0:
                raise NotFoundError.of(name, "no such object")
            reading.add(number)
            time.sleep(0.05)
            reading.discard(number)

    real = Workers.room

    @contextmanager
    def room(some: Workers) -> Iterator[Room]:
        with real(some) as found:
            try:
                yield found
            finally:
                left.append(len(reading))

    busy.hook = hook
    monkeypatch.setattr(Workers, "room", room)
    result = pull(busy, ["main"], tmp_path / "b", counters=False)
    assert (result.entries, len(result.quarantined)) == (0, 1)
    assert left == [0, 0], "the pack is tried twice"


def test_an_entry_from_the_future_is_not_restored_into_the_future(store: DirectoryStore, tmp_path: Path) -> None:
    put_entry(tmp_path / "a", make_name(1), make_entry(b"x"), mtime=time.time_ns() + 10**15)
    push(store, "main", tmp_path / "a")
    pull(store, ["main"], tmp_path / "b")
    assert max(mtimes(tmp_path / "b").values()) <= time.time_ns()


def test_what_appears_while_it_is_pulled_stays(store: DirectoryStore, tmp_path: Path) -> None:
    name = make_name(1, 1)
    put_entry(tmp_path / "a", name, make_entry(b"stored", kind=1, created=100))
    push(store, "main", tmp_path / "a")
    written = make_entry(b"written by a compiler meanwhile", kind=1, created=50)
    busy = FaultyStore(store)
    busy.hook = lambda _verb, name_: put_entry(tmp_path / "b", name, written) if "/packs/" in name_ else None
    assert pull(busy, ["main"], tmp_path / "b").entries == 0
    assert entries_in(tmp_path / "b") == {name: written}


def test_the_counters_are_what_is_there(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 100)
    push(store, "main", tmp_path / "a")
    b = tmp_path / "b"
    pull(store, ["main"], b)
    (b / "0" / "stats").write_text("7 8\n9")
    recount(b)
    counters = {path.parent.name: list(map(int, path.read_text().split())) for path in b.glob("?/stats")}
    assert sum(c[11] for c in counters.values()) == len(made)
    for digit, values in counters.items():
        blocks = sum(Path(f.path).stat().st_blocks for n, f in scan(b).items() if n[0] == digit)
        assert values[11] == sum(values[49:65]) == sum(name[0] == digit for name in made)
        assert values[12] == sum(values[65:81])
        assert blocks // 2 - 16 <= values[12] <= blocks // 2
    assert counters["0"][:3] == [7, 8, 9]
    assert list(b.rglob("*.lock")) == []


def test_a_held_stats_lock_is_respected_and_a_dead_one_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_directory(tmp_path, 30)
    folder = next(tmp_path.iterdir())
    (folder / "stats.lock").symlink_to("another-1-2-3")
    monkeypatch.setattr("imagetiers.ccache.local._STALE_SECONDS", 0.1)
    monkeypatch.setattr("imagetiers.ccache.local._LOCK_SECONDS", 0.4)
    (folder / "stats.alive").touch()
    recount(tmp_path)
    assert not (folder / "stats").exists()
    assert (folder / "stats.lock").is_symlink()
    (folder / "stats.alive").unlink()
    recount(tmp_path)
    assert (folder / "stats").exists()


def test_two_writers_at_once_both_survive(store: DirectoryStore, tmp_path: Path) -> None:
    ours = make_directory(tmp_path / "a", 20, seed=1)
    theirs = make_directory(tmp_path / "b", 20, seed=2)
    racing = FaultyStore(store)
    done: list[PushResult] = []

    def other_writer(verb: str, name: str) -> None:
        if verb == "write" and name.endswith("/head") and not done:
            done.append(push(store, "main", tmp_path / "b"))

    racing.hook = other_writer
    result = push(racing, "main", tmp_path / "a")
    assert result.pushed == frozenset(ours)
    assert result.sequence == 2
    pull(store, ["main"], tmp_path / "c", everything=True)
    assert entries_in(tmp_path / "c") == {**ours, **theirs}


def test_the_fingerprint_is_kept_with_the_working_set(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 2)
    print_ = Fingerprint(ccache_version="4.14.2", source="v2.6.0")
    push(store, "main", tmp_path / "a", step="torch", fingerprint=print_)
    uses = Namespace(store, "main").load().view.head.state.uses
    assert uses["torch", "good"].fingerprint == print_


def test_a_change_that_is_reverted_finds_what_it_used(store: DirectoryStore, tmp_path: Path) -> None:
    """Builds A, B, B, A, C: each takes the set of the one before it that was another, however often it was repeated."""
    common = make_directory(tmp_path / "worker", 20, seed=0)
    own = {"A": make_directory(tmp_path / "A", 5, seed=1), "B": make_directory(tmp_path / "B", 5, seed=2)}
    own["C"] = make_directory(tmp_path / "C", 5, seed=3)

    starts = count(time.time_ns(), 10**10)  # a busy machine may take long for what follows

    def build(what: str) -> int:
        """Be a fresh worker: restore, use what is common and what is its own, push; return what had to be compiled."""
        worker = tmp_path / "worker"
        shutil.rmtree(worker)
        pull(store, ["main"], worker, step="torch")
        there, start = entries_in(worker), next(starts)
        for name, data in {**common, **own[what]}.items():
            put_entry(worker, name, data, mtime=start)
        push(store, "main", worker, step="torch", since=start)
        return len({**common, **own[what]}.keys() - there.keys())

    assert [build(what) for what in "ABBAC"] == [25, 5, 0, 0, 5]
    uses = Namespace(store, "main").load().view.head.state.uses
    assert {key: use.count for key, use in uses.items()} == {("torch", "good"): 25, ("torch", "before"): 25}
    assert build("A") == 0
    assert build("B") == 5


def test_an_architecture_of_an_earlier_run_finds_what_that_compiled(store: DirectoryStore, tmp_path: Path) -> None:
    """Runs for 8.0 and 9.0, then twice for 9.0 alone: nothing that is still remembered of a run used 8.0's objects."""
    starts = count(time.time_ns(), 10**10)
    host = make_directory(tmp_path / "host", 20, seed=0)
    device = {a: make_directory(tmp_path / a, 5, seed=n) for n, a in enumerate(("8.0", "9.0", "9.0+PTX"), 1)}
    edits = {n: make_directory(tmp_path / f"edit-{n}", 1, seed=10 + n) for n in range(3)}

    def build(edit: int, *arches: str) -> None:
        worker, start = tmp_path / "worker", next(starts)
        shutil.rmtree(worker, ignore_errors=True)
        for made in (host, edits[edit], *(device[arch] for arch in arches)):
            for name, data in made.items():
                put_entry(worker, name, data, mtime=start)
        push(store, "main", worker, step="torch", since=start, fingerprint=Fingerprint(arches=arches))

    def restored(*arches: str) -> dict[str, bytes]:
        fresh = tmp_path / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        pull(store, ["main"], fresh, step="torch", arches=arches)
        return entries_in(fresh)

    build(0, "8.0", "9.0")
    build(1, "9.0")
    assert {*device["8.0"]} <= {*restored("8.0", "9.0")}, "the run before the last one had it"
    build(2, "9.0")
    last = {**host, **device["9.0"], **edits[1], **edits[2]}
    assert restored("9.0") == last
    assert restored() == last
    everything = {**last, **device["8.0"], **edits[0]}
    assert restored("8.0", "9.0") == restored("9.0a") == everything
    build(1, "9.0+PTX")
    assert {*device["8.0"]}.isdisjoint(restored("9.0")), "machine code is in what has PTX, too"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "x" * 101, ".x"])
def test_a_namespace_cannot_leave_its_folder(store: DirectoryStore, name: str) -> None:
    with pytest.raises(ValueError, match="not a namespace"):
        Namespace(store, name)


def test_the_namespace_of_a_ccache_version() -> None:
    assert namespace_name("trusted", "main", "4.14.2") == "trusted.main.ccache-4.14"
    assert namespace_name("pr", "Feature/X y", "4.7.5") == "pr.feature-x-y.ccache-4.7"


def test_segments_stay_few(store: DirectoryStore, tmp_path: Path) -> None:
    made: dict[str, bytes] = {}
    for seed in range(40):
        made |= make_directory(tmp_path / "a", 5, seed=seed)
        push(store, "main", tmp_path / "a")
        assert len(Namespace(store, "main").load().view.head.state.segments) <= 6
    pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == made


def test_a_lost_race_drops_what_the_winner_has_in_a_later_version(store: DirectoryStore, tmp_path: Path) -> None:
    manifest, result = make_name(1, 1), make_name(2)
    for folder, created in (("a", 100), ("b", 200)):
        put_entry(tmp_path / folder, manifest, make_entry(folder.encode(), kind=1, created=created))
        put_entry(tmp_path / folder, result, make_entry(b"the same"))
    racing = FaultyStore(store)
    done: list[PushResult] = []

    def other_writer(verb: str, name: str) -> None:
        if verb == "write" and name.endswith("/head") and not done:
            done.append(push(store, "main", tmp_path / "b"))

    racing.hook = other_writer
    assert push(racing, "main", tmp_path / "a").pushed == frozenset()
    pull(store, ["main"], tmp_path / "c")
    assert entries_in(tmp_path / "c") == entries_in(tmp_path / "b")
    assert len(Namespace(store, "main").load().view.live) == 2
    assert sum(map(len, Namespace(store, "main").load().view.rows)) == 2


def test_more_entries_than_a_segment_takes(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ccache_space, ccache_prune):
        monkeypatch.setattr(module, "SEGMENT_ENTRIES", 10)
    made = make_directory(tmp_path / "a", 35)
    assert push(store, "main", tmp_path / "a").entries == 35
    assert [ref.entries for ref in Namespace(store, "main").load().view.head.state.segments] == [10, 10, 10, 5]
    assert push(store, "main", tmp_path / "a").outcome is PushOutcome.NOTHING_NEW
    made |= make_directory(tmp_path / "a", 4, seed=1)
    assert push(store, "main", tmp_path / "a").entries == 4
    for _ in range(2):  # the second one finds nothing to join
        assert prune(store, "main").entries == 39
        assert [ref.entries for ref in Namespace(store, "main").load().view.head.state.segments] == [10, 10, 10, 9]
    index = {blob.name for blob in store.list("ccache/main/index/")}
    prune(store, "main")
    assert {blob.name for blob in store.list("ccache/main/index/")} == index
    pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == made
    store.write("ccache/main/head", b"{")
    assert rebuild(store, "main").entries == 39
    assert push(store, "main", tmp_path / "a").outcome is PushOutcome.NOTHING_NEW
