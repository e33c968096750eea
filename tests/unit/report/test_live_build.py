"""A run as it is seen while it lasts: which details a line has at which width, and what goes first."""

from __future__ import annotations

from collections.abc import Sequence

from imagetiers.events import (
    Compiling,
    Event,
    LogBegan,
    Progressed,
    RunBegan,
    TaskBegan,
    TaskEnded,
    TaskForecast,
)
from imagetiers.report.live_build import LiveBuild
from tests.conftest import HERE, Golden

RUN: tuple[tuple[float, Event], ...] = (
    (0.0, RunBegan("0.2.0", "demo", None, "trusted", ("push",))),
    (0.0, TaskBegan("compile:native", "its wheels are absent")),
    (1.0, LogBegan("compile:native: builder image", "/logs/builder")),
    (2.0, Progressed("compile:native: builder image", 3, 4, "[builder 4/4] COPY")),
    (9.0, Progressed("compile:native: ccache pull", 300, 1200, "packs")),
    (20.0, LogBegan("compile:native", "/logs/compile")),
    (21.0, Progressed("compile:native", 1, 400, "Building first.cpp.o")),
    (21.0, TaskBegan("image:tools", "")),
    (21.5, LogBegan("image:tools", "/logs/tools")),
    (21.5, TaskForecast("image:tools", 100.0, 80.0, 130.0)),
    (22.0, TaskEnded("image:lint", "up to date", 0.0)),
    (22.0, TaskEnded("verify:lint", "failed", 3.0, "it is not what it should be")),
    (60.0, Progressed("compile:native", 200, 400, "Building \x1b]0;title\x07part.cu.o")),
    (60.0, Progressed("image:tools", 2, 9, "[3/9] RUN pip install a lot")),
    (
        61.0,
        Compiling(
            "compile:native", 150, 50, 900.0, 100.0, 1800.0, jobs=8, waiting=3, memory=5 << 30, memory_limit=7 << 30
        ),
    ),
)


def read(path: str, count: int) -> Sequence[str]:
    return [f"{path} line {number}" for number in range(10)][-count:]


def run() -> LiveBuild:
    live = LiveBuild()
    for at, event in RUN:
        live.take(event, at)
    return live


def test_what_is_shown_at_each_width(golden: Golden) -> None:
    live = run()
    texts = []
    for width, height in ((200, 24), (120, 24), (79, 24), (60, 12), (40, 6), (20, 3), (5, 2)):
        lines = live.frame(62.0, width, height, read)
        assert all(line.cell_len <= width for line in lines)
        assert len(lines) <= max(height, 3)
        texts.append("\n".join([f"== {width} x {height}", *(line.plain for line in lines)]))

    golden("\n".join(texts) + "\n", HERE / "golden" / "live.txt")


def test_many_tasks_are_cut_to_the_height() -> None:
    live = LiveBuild()
    for number in range(100):
        live.take(Progressed(f"image:t{number:02}", 1, 2, ""), 0.0)

    lines = [line.plain for line in live.frame(5.0, 80, 10, read)]

    assert len(lines) <= 10
    assert lines[-2:] == ["and 93 more", "100 running"]


def test_nothing_is_shown_of_what_has_no_progress() -> None:
    live = LiveBuild()
    live.take(TaskBegan("check", ""), 0.0)

    assert live.frame(5.0, 80, 24, read) == []


def test_a_transfer_is_as_fast_as_it_was_and_a_build_is_not() -> None:
    live = LiveBuild()
    for title in ("push:app", "image:app"):
        live.take(Progressed(title, 0, 10, ""), 0.0)
        live.take(Progressed(title, 5, 10, ""), 100.0)

    push, image = (live.works[task].left(100.0) for task in ("push:app", "image:app"))

    assert (push, image) == (100.0, None)


def test_what_has_ended_goes() -> None:
    live = run()
    live.take(TaskEnded("compile:native", "done", 100.0), 70.0)
    live.take(Progressed("ccache:pull native", 1, 2, ""), 70.0)
    live.take(TaskEnded("ccache:pull", "done", 1.0), 71.0)

    assert list(live.works) == ["image:tools"]
