"""How far a build is, as its log shows it and as lines say it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagetiers.adapters.console import RichConsole
from imagetiers.adapters.display import BuildDisplay, ToldConsole
from imagetiers.building.buildlog import BuildLog

BUILDKIT = """\
#1 [internal] load remote build context
#1 DONE 0.1s
#4 [toolchain 1/3] FROM docker.io/library/debian:trixie-slim
#4 CACHED
#5 [toolchain 2/3] COPY a /a
#5 DONE 0.1s
#6 [toolchain 3/3] RUN apt-get update
#7 [source 1/2] COPY b /b
#6 [toolchain 3/3] RUN apt-get update
#6 1.2 Reading package lists...
#7 DONE 0.0s
#6 DONE 9.0s
#9 exporting to image
#9 DONE 1.0s
""".splitlines()


class Bar:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def update(self, done: int, total: int, note: str = "") -> None:
        del note
        self.seen.append((done, total))


class Clock:
    """Seconds that only the test lets pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


def test_steps_are_counted_of_the_stages_that_have_begun(tmp_path: Path) -> None:
    bar = Bar()
    with BuildLog(tmp_path / "x.log", bar, now=lambda: 0.0) as log:
        for line in BUILDKIT:
            log.take(line)

    assert bar.seen == [(0, 3), (1, 3), (1, 3), (2, 3), (2, 3), (2, 5), (2, 5), (3, 5), (4, 5)]


def test_lines_forecast_what_is_left_of_one_piece_of_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    screen = RichConsole()
    with ToldConsole(screen, BuildDisplay(screen)).progress("pull:x") as bar:
        for at, done, total in ((0.0, 0, 4), (100.0, 2, 4), (200.0, 4, 8), (300.0, 8, 8), (310.0, 1, 9), (410.0, 3, 9)):
            clock.now = at
            bar.update(done, total)

    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "pull:x: 2/4, 50 %, 100 s left, after 100 s",
        "pull:x: 4/8, 50 %, 3 min left, after 3 min",
        "pull:x: 8/8, 100 %, after 5 min, 2/min",
        "pull:x: 3/9, 33 %, 5 min left, after 7 min",
    ]
