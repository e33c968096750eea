"""What is told of a compile while it runs: its logs are read as they grow, and asked of them is what there is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from imagetiers.building.compile_watch import CompileWatch
from imagetiers.events import Compiling
from imagetiers.planning.commands import CALL_LOG, JOB_LOG
from imagetiers.planning.objects import KnownObject, KnownObjects
from imagetiers.services import ContainerLoad
from imagetiers.stores.directory import DirectoryStore
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services

KNOWN = KnownObjects({f"/b/{number}.o": KnownObject(10.0, 1 << 20, 100.0) for number in range(1, 11)})


class Bar:
    def update(self, done: int, total: int, note: str = "") -> None:
        pass


class Watched:
    """A compile whose logs a test writes, and whose clock it moves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 1000.0
        engine = FakeEngine(FakeRegistry())
        world = replace(services(engine, DirectoryStore(folder / "cache"), Shown()), now=lambda: self.now)
        self.watch = CompileWatch(world, "compile:app", "container", folder, KNOWN)

    def call(self, numbers: Iterable[int], result: str) -> None:
        with (self.folder / CALL_LOG).open("a") as log:
            for number in numbers:
                at = f"[2026-11-29T05:14:50.414666 {number} ]"
                log.write(
                    f"{at} === CCACHE 4.14.2 STARTED ===\n{at} Object file: /b/{number}.o\n{at} Result: {result}\n"
                )

    def ran(self, number: int, seconds: float) -> None:
        with (self.folder / JOB_LOG).open("a") as log:
            log.write(f"done\t{seconds}\t1\t1\t{'0' * 16}\t/b/{number}.o\t{number}.c\tcc\n")

    def look(self) -> Compiling | None:
        return self.watch._look()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_it_reads_logs_as_they_grow(watched: Watched) -> None:
    began = watched.look()
    watched.now += 100
    watched.call([1, 2], "direct_cache_hit")
    first = watched.look()
    watched.call([3], "cache_miss")
    watched.ran(3, 5.0)
    with (watched.folder / CALL_LOG).open("a") as log:
        log.write("[2026-11-29T05:14:50.414666 4 ] === CCACHE 4.14.2 STAR")  # half a line
    watched.now += 4
    second = watched.look()

    assert began is not None
    assert (began.jobs, began.memory, began.hits, began.misses, began.left) == (2, 1 << 30, 0, 0, None)
    assert first is not None
    assert second is not None
    assert (first.hits, first.misses, first.saved, first.left) == (2, 0, 20.0, None)
    assert (second.hits, second.misses, second.saved, second.compiled) == (2, 1, 20.0, 5.0)
    assert second.left == pytest.approx(70.0 * 6 / 30)  # 30 of 100 known seconds went by in 6
    assert second.rate == pytest.approx(0.8)
    assert (second.jobs, second.waiting, second.memory, second.memory_limit) == (2, 1, 1 << 30, 4 << 30)


def test_nothing_is_told_before_a_compiler_runs(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEngine, "load", lambda *_: ContainerLoad(1 << 30, 4 << 30, jobs=0, waiting=0))

    assert watched.look() is None


def test_the_build_tools_count_says_how_much_of_what_is_known_is_built(watched: Watched) -> None:
    watched.call([1], "cache_miss")
    watched.look()
    watched.watch.count(1, 4)
    watched.now += 8

    told = watched.look()

    assert told is not None
    assert told.left == pytest.approx(90.0 * (3 / 9) * 10 / 10)


def test_it_ends_with_its_block(watched: Watched) -> None:
    with watched.watch:
        pass

    assert not watched.watch._thread.is_alive()
