"""Clocks that are wrong, machines that sleep, objects that are gone, refusals in the middle, files that were left behind."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagetiers.ccache import namespace as ccache_space
from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.local import scan
from imagetiers.ccache.namespace import Namespace, namespace_name
from imagetiers.ccache.prune import GRACE_MIN, PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import PUSH_MAX_SECONDS, PushOutcome, push
from imagetiers.ccache.verify import verify
from imagetiers.config.model import branch_name
from imagetiers.errors import ForbiddenError, UnavailableError
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.faults import FaultyStore
from tests.ccache.synthetic import entries_in, make_directory, make_entry, make_name, put_entry
from tests.gcs.harness import GcsServer

DAY = 86_400.0
GRACE = PruneOptions(grace=GRACE_MIN, keep_history=0)


def everything(store: DirectoryStore, folder: Path) -> dict[str, bytes]:
    shutil.rmtree(folder, ignore_errors=True)
    assert pull(store, ["main"], folder, everything=True).quarantined == ()
    return entries_in(folder)


# clocks


@pytest.mark.parametrize("skew", [-60 * DAY, 60 * DAY], ids=["slow", "fast"])
def test_a_wrong_clock_neither_loses_nor_keeps_entries(
    gcs_server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    store = gcs_server.store(f"skew{skew}")
    fresh, real = make_directory(tmp_path / "a", 10), time.time
    for file in scan(tmp_path / "a").values():
        os.utime(file.path, (real() + skew, real() + skew))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + skew)
        push(store, "main", tmp_path / "a", since=1 << 62)
    pruned = prune(store, "main", PruneOptions(max_age=30 * DAY, keep_history=0))
    assert (pruned.entries, pruned.dropped) == (len(fresh), 0)
    later = Namespace(store, "main").now() + 40 * DAY
    assert prune(store, "main", PruneOptions(max_age=30 * DAY, keep_history=0), clock=lambda: later).dropped == 10


def test_a_fast_clock_does_not_win_a_manifest_for_a_day(
    gcs_server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, real = gcs_server.store("fast"), time.time
    now, name = int(real()), make_name(1, 1)
    put_entry(tmp_path / "fast", name, make_entry(b"by the fast one", kind=1, created=now + 86_400))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + DAY)
        push(store, "main", tmp_path / "fast")
    put_entry(tmp_path / "right", name, make_entry(b"an hour later", kind=1, created=now + 3600))
    assert push(store, "main", tmp_path / "right").entries == 1
    (entry,) = Namespace(store, "main").load().view.live.values()
    assert entry.kind is Kind.MANIFEST
    assert entry.slot.content == entries_in(tmp_path / "right")[name][-16:]


def aged(store: DirectoryStore, names: list[str], seconds: float) -> None:
    for name in names:
        path = store._path(name)
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


@pytest.mark.parametrize("pruned", [True, False])
def test_a_push_that_slept_starts_again(store: DirectoryStore, tmp_path: Path, *, pruned: bool) -> None:
    """Between the packs and the head the machine sleeps; no clock of its own shows it."""
    make_directory(tmp_path / "x", 1, seed=9)
    push(store, "main", tmp_path / "x")
    there = {blob.name for blob in store.list("ccache/main/packs/")}
    made = make_directory(tmp_path / "a", 20)
    slow = FaultyStore(store)
    slept: list[str] = []

    def sleep(verb: str, name: str) -> None:
        if verb == "write" and "/index/" in name and not slept:
            slept.extend(blob.name for blob in store.list("ccache/main/packs/") if blob.name not in there)
            aged(store, slept, PUSH_MAX_SECONDS + 60)
            if pruned:
                for one in slept:
                    store.delete(one)

    slow.hook = sleep
    assert push(slow, "main", tmp_path / "a").entries == 20
    assert slept
    assert not {f"ccache/main/packs/{e.pack.name}" for e in Namespace(store, "main").load().view.live.values()} & set(
        slept
    )
    assert everything(store, tmp_path / "b").items() >= made.items()


def test_a_push_whose_packs_go_again_and_again_says_so(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 5)
    eaten = FaultyStore(store)

    def eat(verb: str, name: str) -> None:
        if verb == "write" and "/index/" in name:
            for blob in list(store.list("ccache/main/packs/")):
                store.delete(blob.name)

    eaten.hook = eat
    with pytest.raises(UnavailableError, match="gone or too old"):
        push(eaten, "main", tmp_path / "a")
    assert Namespace(store, "main").load().generation == 0


# what is gone is pushed again


def test_packs_that_are_gone_are_pushed_again(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 20)
    push(store, "main", tmp_path / "a")
    for blob in list(store.list("ccache/main/packs/")):
        store.delete(blob.name)
    result = push(store, "main", tmp_path / "a")
    assert (result.outcome, result.entries) == (PushOutcome.PUSHED, 20)
    assert everything(store, tmp_path / "b") == made
    assert push(store, "main", tmp_path / "a").outcome is PushOutcome.NOTHING_NEW


@pytest.mark.parametrize("folder", ["index", "sets"])
def test_a_segment_that_is_gone_is_written_again_by_who_has_it(
    store: DirectoryStore, tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ccache_space, "INLINE_MAX", 0)
    made = make_directory(tmp_path / "a", 20)
    push(store, "main", tmp_path / "a")
    gone = [blob.name for blob in store.list(f"ccache/main/{folder}/")]
    assert gone
    for name in gone:
        store.delete(name)
    push(store, "main", tmp_path / "a")
    assert all(store.stat(name) for name in gone) or folder == "sets"  # these were written anew
    assert everything(store, tmp_path / "b") == made
    assert Namespace(store, "main").load().lost == ()


def test_what_a_pull_has_quarantined_is_pushed_again_by_that_machine(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 20)
    push(store, "main", tmp_path / "a")
    (pack,) = store.list("ccache/main/packs/")
    damaged = bytearray(store.read(pack.name)[0])
    damaged[len(damaged) // 2] ^= 1
    store.write(pack.name, bytes(damaged))
    worker = tmp_path / "worker"
    assert len(pull(store, ["main"], worker).quarantined) == 1
    make_directory(worker, 20)  # compiled again
    assert push(store, "main", worker).entries == 20
    assert push(store, "main", worker).entries == 0
    assert everything(store, tmp_path / "b") == made


@pytest.mark.parametrize("what", ["pack", "segment"])
def test_verify_repairs_from_a_directory_of_this_machine(store: DirectoryStore, tmp_path: Path, what: str) -> None:
    made = make_directory(tmp_path / "a", 20)
    push(store, "main", tmp_path / "a")
    if what == "pack":
        (pack,) = store.list("ccache/main/packs/")
        store.write(pack.name, store.read(pack.name)[0][:-1] + b"x")
        assert len(verify(store, "main").bad) == 20
    else:
        (segment,) = store.list("ccache/main/index/")
        store.delete(segment.name)
        assert len(verify(store, "main").bad) == 1
    repaired = verify(store, "main", directory=tmp_path / "a")
    assert (repaired.ok, repaired.repaired) == (True, 20 if what == "pack" else 0)
    assert verify(store, "main").ok
    assert everything(store, tmp_path / "b") == made


# refusals


@pytest.mark.parametrize("verb", ["read", "write", "list"])
def test_a_refusal_in_the_middle_is_a_failure(store: DirectoryStore, tmp_path: Path, verb: str) -> None:
    make_directory(tmp_path / "a", 30)
    at = 1 if verb in ("read", "list") else 2
    refused = FaultyStore(store, at=at, verbs=(verb,), fault=lambda: ForbiddenError.of("x", "403"), dead=False)
    with pytest.raises(ForbiddenError):
        push(refused, "main", tmp_path / "a")


# names


def test_branches_never_share_a_name() -> None:
    long = "feature/a-very-long-name-of-a-branch-of-somebody"
    names = {branch_name(b) for b in (long, long + "-2", "feature/x", "feature-x", "Feature-x", "main", "pr-7")}
    assert len(names) == 7
    assert {branch_name("main"), branch_name("pr-7")} == {"main", "pr-7"}
    assert all(len(name) <= 30 for name in names)


def test_ccaches_version_is_never_cut_off() -> None:
    names = {
        namespace_name(f"untrusted.{'b' * length}", "line" * 30, version)
        for version in ("4.13.1", "4.14.2")
        for length in (1, 30, 90)
    }
    assert len(names) == 6
    assert all(len(name) <= 100 and name.endswith((".ccache-4.13", ".ccache-4.14")) for name in names)
    assert len({namespace_name("trusted.main", "x" * 200 + end, "4.14.2") for end in "ab"}) == 2


# what a killed process leaves


def test_half_written_files_go_after_an_hour(store: DirectoryStore, tmp_path: Path) -> None:
    a = tmp_path / "a"
    made = make_directory(a, 3)
    folder = Path(next(iter(scan(a).values())).path).parent
    left = [folder / f"{'0' * 38}.tmp.0123abcd", folder / ".0123456789abcdef.part"]
    theirs = folder / "x.tmp.Ab12cd"
    for path in (*left, theirs):
        path.write_bytes(b"half")
        os.utime(path, (1, 1))
    new = folder / f"{'1' * 38}.tmp.0123abcd"
    new.write_bytes(b"being written")
    push(store, "main", a)
    assert [path.exists() for path in (*left, theirs, new)] == [False, False, True, True]
    assert {name: data for name, data in entries_in(a).items() if name in made} == made


def test_half_read_files_go_after_a_day(store: DirectoryStore, tmp_path: Path) -> None:
    store.write("x", b"1")
    left, new = tmp_path / "out" / ".0123456789abcdef.part", tmp_path / "out" / ".fedcba9876543210.part"
    left.parent.mkdir()
    for path in (left, new):
        path.write_bytes(b"half")
    os.utime(left, (1, 1))
    store.read_file("x", tmp_path / "out" / "y")
    assert sorted(path.name for path in left.parent.iterdir()) == [new.name, "y"]


def test_a_stale_head_is_not_asked_for_thousands_of_times(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy keeps an old head whose index is gone: eight reads with pauses, then words."""
    make_directory(tmp_path / "a", 5)
    push(store, "main", tmp_path / "a")
    stale = store.read("ccache/main/head")
    for blob in list(store.list("ccache/main/index/")):
        store.delete(blob.name)
    store.write("ccache/main/head", stale[0])
    old = FaultyStore(store)
    read: Callable[..., tuple[bytes, int]] = old.read
    old.read = lambda name, **more: stale if name.endswith("/head") else read(name, **more)  # type: ignore[method-assign]
    monkeypatch.setattr(ccache_space, "_LOADS", 3)
    pauses: list[float] = []
    with pytest.raises(UnavailableError, match="was each time an old one"):
        Namespace(old, "main", pause=pauses.append).load()
    assert len(pauses) >= 2
    assert len(old.calls) < 20
