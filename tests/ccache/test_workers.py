"""Packs made and restored by processes of their own: with the same results, and whatever becomes of them."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagetiers.ccache import workers
from imagetiers.ccache.format.entry import path_of
from imagetiers.ccache.format.pack import PACK_MAX
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.worker import serve
from imagetiers.ccache.workers import Workers
from imagetiers.errors import CorruptError
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.synthetic import entries_in, make_directory
from tests.conftest import HERE
from tests.waiting import wait_until


@dataclass(frozen=True)
class Told:
    """An order that writes into the memory and says by which process it was done."""

    text: bytes

    def do(self, memory: memoryview) -> int:
        memory[: len(self.text)] = self.text
        return os.getpid()


class Asked:
    """An order that says where modules are looked for."""

    def do(self, memory: memoryview) -> list[str]:
        del memory
        return sys.path


@dataclass(frozen=True)
class Refused:
    """An order that fails, as a damaged pack does."""

    error: Exception

    def do(self, memory: memoryview) -> int:
        del memory
        raise self.error


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use processes, however little there is to do; they must find this module."""
    monkeypatch.setattr(workers, "WORTH", 0)
    monkeypatch.syspath_prepend(HERE.parent)


@pytest.mark.usefixtures("apart")
def test_an_order_is_done_in_another_process_and_leaves_its_bytes_here() -> None:
    with Workers(0, 1) as some, some.room() as room:
        assert some.do(Told(b"bytes"), room) not in {os.getpid(), 0}
        assert bytes(room.memory[:5]) == b"bytes"


@pytest.mark.usefixtures("apart")
def test_modules_are_found_in_the_same_order_there() -> None:
    here = list(dict.fromkeys(each or str(Path.cwd()) for each in sys.path))
    with Workers(0, 1) as some, some.room() as room:
        assert some.do(Asked(), room)[: len(here)] == here


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("error", [CorruptError.of("packs/x", "cut off", "look"), OSError(errno.ENOSPC, "full", "x")])
def test_what_an_order_raises_is_raised_here(error: Exception) -> None:
    with Workers(0, 1) as some, some.room() as room:
        with pytest.raises(type(error)) as raised:
            some.do(Refused(error), room)
        assert str(raised.value) == str(error)
        assert some.do(Told(b""), room) != os.getpid()  # and it goes on


@pytest.mark.usefixtures("apart")
def test_what_a_killed_process_leaves_is_done_here() -> None:
    with Workers(0, 1) as some, some.room() as room:
        killed = some.do(Told(b""), room)
        os.kill(killed, signal.SIGKILL)
        by = set()
        while os.getpid() not in by:  # they take turns
            room.memory[:5] = b"     "
            by.add(some.do(Told(b"still"), room))
        assert killed not in by
        assert bytes(room.memory[:5]) == b"still"


@pytest.mark.usefixtures("apart")
def test_where_no_process_can_be_started_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", none_left)
    with Workers(0, 1) as some, some.room() as room:
        assert some.do(Told(b""), room) == os.getpid()


def test_little_is_done_in_this_process() -> None:
    with Workers(workers.WORTH - 1, 1) as some, some.room() as room:
        assert some.do(Told(b""), room) == os.getpid()
        assert len(room.memory) == PACK_MAX


@pytest.mark.usefixtures("apart")
def test_what_processes_push_and_pull_comes_back_bit_for_bit(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 400, mean=60_000, manifests=0.5)
    pushed = push(store, "main", tmp_path / "a")
    assert (pushed.entries, pushed.skipped) == (400, ())
    assert pushed.packs > 1
    back = pull(store, ["main"], tmp_path / "b")
    assert (back.entries, back.quarantined, back.stopped) == (400, (), "")
    assert entries_in(tmp_path / "b") == made


@pytest.mark.usefixtures("apart")
def test_processes_say_what_they_left_out(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 30)
    damaged, gone = list(made)[:2]
    file = tmp_path / "a" / path_of(damaged)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    (tmp_path / "a" / path_of(gone)).unlink()
    pushed = push(store, "main", tmp_path / "a")
    assert [line.partition(":")[0] for line in pushed.skipped] == [damaged]
    pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b").keys() == made.keys() - {damaged, gone}


@pytest.mark.usefixtures("apart")
def test_a_damaged_pack_is_put_aside_and_the_others_are_restored(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 400, mean=60_000)
    push(store, "main", tmp_path / "a")
    name = next(store.list("ccache/main/packs/")).name
    data = bytearray(store.read(name)[0])
    data[len(data) // 2] ^= 1
    store.write(name, bytes(data))
    back = pull(store, ["main"], tmp_path / "b")
    assert len(back.quarantined) == 1
    assert entries_in(tmp_path / "b").items() <= made.items()
    assert 0 < back.entries < 400


@pytest.mark.usefixtures("apart")
def test_a_process_ends_with_whoever_has_started_it() -> None:
    program = (
        "import time\n"
        "from imagetiers.ccache.workers import Workers\n"
        "from tests.ccache.test_workers import Told\n"
        "some = Workers(1_000_000, 1)\n"
        "with some.room() as room:\n"
        "    print(some.do(Told(b''), room), flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=HERE.parent, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip())
        assert child.exists()
        parent.kill()
    wait_until(lambda: not child.exists())


def test_the_program_answers_each_order_until_there_are_no_more() -> None:
    ours, theirs = socket.socketpair()
    memory = memoryview(bytearray(2 * PACK_MAX))
    with ours, theirs, ours.makefile("rwb") as stream, theirs.makefile("rwb") as served:
        for order in (Told(b"first"), Refused(CorruptError.of("a", "b"))):
            pickle.dump((1, order), stream)
        stream.flush()
        ours.shutdown(socket.SHUT_WR)
        serve(served, memory)
        assert pickle.load(stream) == os.getpid()  # noqa: S301
        assert str(pickle.load(stream)) == "a: b"  # noqa: S301
    assert bytes(memory[PACK_MAX : PACK_MAX + 5]) == b"first"
