"""Time limits for a store and for a compile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from imagetiers.building.deadline import Deadline
from imagetiers.errors import BuildError, NotFoundError, UnavailableError
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.limited import LimitedStore


class Stuck(DirectoryStore):
    """A store that answers no read before it is let go."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.let_go = threading.Event()

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        self.let_go.wait()
        return super().read(name, start=start, length=length)


def test_a_call_that_takes_too_long_is_left_behind(tmp_path: Path) -> None:
    left = 0.01
    stuck = Stuck(tmp_path)
    store = LimitedStore(stuck, lambda: left)
    with pytest.raises(UnavailableError, match="did not answer before the time was over"):
        store.read("x")
    stuck.let_go.set()
    left = 3600.0
    store.write("x", b"1")
    assert [blob.name for blob in store.list()] == ["x"]
    assert store.stat("x") is not None
    with pytest.raises(NotFoundError):
        store.read_file("y", tmp_path / "out")


def test_who_was_left_behind_touches_no_memory_of_others(tmp_path: Path) -> None:
    stored = DirectoryStore(tmp_path)
    stored.write("x", b"old")
    written = threading.Event()

    class Late(Stuck):
        def write(self, name: str, data: bytes | memoryview, *, if_generation: int | None = None) -> int:
            self.let_go.wait()
            try:
                return super().write(name, data, if_generation=if_generation)
            finally:
                written.set()

    late = Late(tmp_path)
    memory = memoryview(bytearray(b"mine"))
    store = LimitedStore(late, lambda: 0.01)
    with pytest.raises(UnavailableError):
        store.read_into("x", memory)
    with pytest.raises(UnavailableError):
        store.write("y", memory)
    memory[:] = b"next"  # another pack by now
    late.let_go.set()
    assert written.wait(60)
    assert stored.read("y")[0] == b"mine"
    assert bytes(memory) == b"next"


def test_when_the_time_is_over_nothing_is_asked(tmp_path: Path) -> None:
    left = [1.0, 0.0]
    store = LimitedStore(DirectoryStore(tmp_path), lambda: left.pop(0))
    store.write("x", b"1")
    with pytest.raises(UnavailableError, match="not asked any more"):
        store.read("x")


def test_a_deadline_leaves_time_for_the_last_push(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    assert Deadline(None).limited(store) is store
    Deadline(None).check("compile:x")
    limit = Deadline(100.0)
    assert 99 < limit.left() <= 100
    assert isinstance(limit.limited(store), LimitedStore)
    limit.check("compile:x")
    with pytest.raises(BuildError, match="compile:x: was not done after 0 s and was stopped"):
        Deadline(0.0).check("compile:x")
