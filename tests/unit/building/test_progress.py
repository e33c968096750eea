"""How far a build is, as its log shows it and as lines say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetiers.adapters.console import RichConsole
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
        monkeypatch.setattr("imagetiers.adapters.console.time.monotonic", lambda: self.now)


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
    with RichConsole().progress("image:x") as bar:
        for at, done, total in ((100.0, 2, 4), (200.0, 4, 8), (300.0, 8, 8), (310.0, 1, 9), (410.0, 3, 9)):
            clock.now = at
            bar.update(done, total)

    assert capsys.readouterr().out.splitlines() == [
        "image:x: 2/4 (50 %) after 100 s, about 100 s left",
        "image:x: 4/8 (50 %) after 200 s, about 200 s left",
        "image:x: 8/8 (100 %) after 300 s",
        "image:x: 3/9 (33 %) after 100 s, about 200 s left",
    ]
