"""DirectoryStore when the process is killed, the disk is full, damaged or read-only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagetiers.errors import CorruptError, NotFoundError, PreconditionError, StoreError, UnavailableError
from imagetiers.stores import directory as store_dir
from imagetiers.stores.directory import DirectoryStore

# One process forks a child for every step: the child counts its calls into the kernel and, at the n-th, dies (before or
# after the call) or gets an error instead. What it leaves is looked at through a fresh store.
DRIVER = """
import errno, fcntl, json, os, shutil, signal, sys
from pathlib import Path
from imagetiers.errors import StoreError
from imagetiers.stores.directory import DirectoryStore

CALLS = {
    "half": ["write"],
    "full": ["open", "write", "pwrite", "fsync", "replace", "mkdir"],
}.get(sys.argv[2], ["open", "write", "pwrite", "fsync", "replace", "mkdir", "unlink", "close", "flock"])
OLD, NEW = b"old" * 50_000, b"new!" * 60_000
base, mode = Path(sys.argv[1]), sys.argv[2]

def fsync(fd):
    pass  # a kill loses nothing that the kernel has; only the steps count here, and the test is to be quick

os.fsync = fsync

def arm(step, mode, seen):
    def wrap(real):
        def call(*arguments, **keywords):
            seen.append(real.__name__)
            hit = len(seen) == step
            if hit and mode == "kill-before":
                os.kill(os.getpid(), signal.SIGKILL)
            if hit and mode == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if hit and mode == "half":
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*arguments, **keywords)
            finally:
                if hit and mode == "kill-after":
                    os.kill(os.getpid(), signal.SIGKILL)
        return call
    for name in CALLS:
        module = fcntl if name == "flock" else os
        setattr(module, name, wrap(getattr(module, name)))

def prepare(root, action):
    shutil.rmtree(root, ignore_errors=True)
    store = DirectoryStore(root)
    if action == "first":
        return 0
    store.write("dir/other", b"other")
    return 0 if action == "create" else store.write("dir/x", OLD)

def act(root, action, before):
    store = DirectoryStore(root)
    if action == "delete":
        store.delete("dir/x", if_generation=before)
    elif action == "file":
        store.write_file("dir/x", base / "source", if_generation=before)
    else:
        store.write("dir/x", NEW, if_generation=None if action == "blind" else before)

def look(root, action, before):
    store = DirectoryStore(root)
    names = [blob.name for blob in store.list()]
    old = OLD if before else None
    new = None if action == "delete" else NEW
    now, generation = store.read("dir/x") if "dir/x" in names else (None, 0)
    assert now in (old, new), "torn"
    assert (generation == before) == (now == old), "content and generation of different writes"
    assert set(names) <= {"dir/x", "dir/other"}, names
    assert action == "first" or store.read("dir/other")[0] == b"other"
    again = store.write("dir/x", b"again", if_generation=generation)  # nobody holds a lock
    assert again > max(before, generation)
    return "old" if now == old else "new"

(base / "source").write_bytes(NEW)
outcomes = {}
for action in ("first", "create", "swap", "blind", "file", "delete"):
    step, outcomes[action] = 0, []
    while True:
        step += 1
        root = base / "store"
        before = prepare(root, action)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            seen = []
            arm(step, mode, seen)
            told = "done"
            try:
                act(root, action, before)
            except StoreError as error:
                told = str(error)
            real = os.fdopen(write, "w")
            real.write(json.dumps([told, len(seen)]))
            real.flush()
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            told = json.loads(pipe.read() or '["killed", null]')
        os.waitpid(child, 0)
        if mode == "full":
            told.append(sorted(p.name for p in (root / "tmp").glob("*")))
        told.append(look(root, action, before))
        outcomes[action].append(told)
        if told[1] is not None and told[1] < step:
            break
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("mode", ["kill-before", "kill-after", "half"])
def test_killed_at_every_step(tmp_path: Path, mode: str) -> None:
    outcomes = _drive(tmp_path, mode)
    assert len(outcomes) == 6
    for action, told in outcomes.items():
        states = [str(state) for *_, state in told]
        # Old up to some step and new from there on; the last run was not hit.
        assert states == sorted(states, reverse=True), action
        assert (told[-1][0], states[-1]) == ("done", "new")
        assert [what for what, *_ in told[:-1]] == ["killed"] * (len(told) - 1)
        assert len(told) > 8 or mode == "half", action
        assert states[0] == "old" or (mode, action) == ("half", "delete")  # deleting writes nothing


def test_disk_full_at_every_step(tmp_path: Path) -> None:
    for action, told in _drive(tmp_path, "full").items():
        errors = [(what, left, state) for what, _, left, state in told if what != "done"]
        assert len(errors) >= (4 if action == "delete" else 5), action
        for what, left, state in errors:
            assert "the disk is full" in what, action
            assert "hint: make room" in what
            assert left == [], "a temporary file was left behind"
            # An error says "not done" but where even the last fsync of the folder failed.
            assert state == "old" or (what, state) == (errors[-1][0], "new")


def _drive(tmp_path: Path, mode: str) -> dict[str, list[list[Any]]]:
    command = [sys.executable, "-c", DRIVER, str(tmp_path), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, list[list[Any]]] = json.loads(done.stdout)
    return outcomes


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "imagetiers-test", str(disk)]
    if (
        os.getuid() != 0
        or not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        store = DirectoryStore(disk / "store")
        kept = store.write("kept", b"k" * 500_000)
        (tmp_path / "big").write_bytes(b"b" * 900_000)
        calls: list[Callable[[], object]] = [
            lambda: store.write("big", b"b" * 900_000, if_generation=0),
            lambda: store.write("kept", b"b" * 900_000, if_generation=kept),
            lambda: store.write_file("big", tmp_path / "big"),
            lambda: store.read_file("kept", disk / "copy-1") and store.read_file("kept", disk / "copy-2"),
        ]
        for call in calls:
            with pytest.raises(StoreError, match="the disk is full") as caught:
                call()
            assert str(disk) in str(caught.value)
        assert [path.name for path in disk.iterdir() if path.is_file()] == ["copy-1"]
        (disk / "copy-1").unlink()
        assert list((disk / "store" / "tmp").iterdir()) == []
        assert [blob.name for blob in store.list()] == ["kept"]
        assert store.read("kept") == (b"k" * 500_000, kept)
        store.write("small", b"s" * 100_000)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


READ_ONLY = """
import os, sys
from pathlib import Path
from imagetiers.errors import ForbiddenError
from imagetiers.stores.directory import DirectoryStore
root = Path(sys.argv[1])
os.chdir(root)
if os.getuid() == 0:
    os.setuid(65534)
store = DirectoryStore(Path())
assert store.read("dir/x")[0] == b"1"
assert [blob.name for blob in store.list()] == ["dir/x"]
store.delete("not-there")
for name, call in {
    "write": lambda: store.write("new", b""),
    "overwrite": lambda: store.write("dir/x", b""),
    "file": lambda: store.write_file("dir/y", Path("objects/dir@/x")),
    "delete": lambda: store.delete("dir/x"),
}.items():
    try:
        call()
        sys.exit(f"{name} was permitted")
    except ForbiddenError as error:
        assert "not permitted" in str(error) and "hint: check the owner" in str(error), str(error)
"""


def test_a_read_only_directory(tmp_path: Path) -> None:
    root = tmp_path / "store"
    DirectoryStore(root).write("dir/x", b"1")
    paths = [root, *root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        command = [sys.executable, "-c", READ_ONLY, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


# damage


@pytest.mark.parametrize("where", ["content", "trailer", "truncated", "appended", "emptied"])
def test_damage_is_noticed_and_can_be_repaired(tmp_path: Path, where: str) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.write("x", b"content" * 100)
    path = tmp_path / "store" / "objects" / "x"
    raw = bytearray(path.read_bytes())
    if where in ("content", "trailer"):
        raw[10 if where == "content" else -40] ^= 1
    path.write_bytes(
        {"truncated": bytes(raw[:-5]), "appended": bytes(raw) + b"!", "emptied": b""}.get(where, bytes(raw))
    )
    with pytest.raises(CorruptError, match="does not match its checksum"):
        store.read("x")
    with pytest.raises(CorruptError):
        store.read_file("x", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    blob = store.stat("x")
    assert blob
    assert list(store.list()) == [blob]
    with pytest.raises(PreconditionError):
        store.write("x", b"", if_generation=0)
    store.write("x", b"good", if_generation=blob.generation)
    assert store.read("x")[0] == b"good"


def test_files_of_others_are_not_objects(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write("a/b", b"")
    for name in (".DS_Store", ".nfs0001", "%zz", "@", "a@/.swp", "a@/%2Fx"):
        (tmp_path / "objects" / name).write_bytes(b"")
    assert [blob.name for blob in store.list()] == ["a/b"]


# time


def test_a_clock_that_went_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path)
    first = store.write("x", b"1")
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    second = store.write("x", b"2", if_generation=first)
    store.delete("x", if_generation=second)
    assert store.write("x", b"3", if_generation=0) > second > first


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write("x", b"")
    old, new = tmp_path / "tmp" / "1-old", tmp_path / "tmp" / "1-new"
    for path in (old, new):
        path.write_bytes(b"left")
    os.utime(old, (0, 0))
    store.write("x", b"")  # has swept before
    assert old.exists()
    DirectoryStore(tmp_path).write("x", b"")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_lock_that_is_never_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path)
    monkeypatch.setattr(store_dir, "_LOCK_SECONDS", 0.05)
    with store._locked("x"):
        with pytest.raises(UnavailableError, match="locked by another process"):
            store.write("x", b"")
        assert store.stat("x") is None  # readers need no lock
    store.write("x", b"")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = DirectoryStore(tmp_path / "file")
    with pytest.raises(StoreError):
        store.write("x", b"")
    assert store.stat("x") is None
    assert list(store.list()) == []


def test_threads_take_turns(tmp_path: Path) -> None:
    """A lock is a description of an open file: two threads of one process exclude each other, too."""
    store = DirectoryStore(tmp_path)
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(20):
            with store._locked("x"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@pytest.mark.timeout(30)
def test_what_is_no_file_in_an_objects_place_is_damaged_and_not_waited_for(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    for name in ("pipe", "zero", "folder"):
        store.write(name, b"1")
        (path,) = (path for path in (tmp_path / "store").rglob(f"{name}*") if path.is_file())
        path.unlink()
        if name == "pipe":
            os.mkfifo(path)
        elif name == "zero":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
    for name in ("pipe", "zero"):
        with pytest.raises(CorruptError):
            store.read(name)
        with pytest.raises(CorruptError):
            store.read_file(name, tmp_path / "out")
        assert store.stat(name) is not None
        store.write(name, b"2")
        assert store.read(name)[0] == b"2"
    with pytest.raises(NotFoundError):
        store.read("folder")
    assert {"pipe", "zero"} <= {blob.name for blob in store.list()}
