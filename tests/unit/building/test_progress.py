"""How far a build is, as its log shows it and as lines say it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagetiers.adapters.console import RichConsole
from imagetiers.adapters.display import BuildDisplay, ToldConsole
from imagetiers.building.build_tools import BuildTools
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


def reached(text: str) -> list[tuple[int, int, str, bool]]:
    tools = BuildTools()
    found = (tools.read(line) for line in text.strip("\n").split("\n"))
    return [(each.done, each.total, each.note, each.files) for each in found if each is not None]


def test_build_tools() -> None:
    assert reached("[12/340] Building CXX object a/b.cpp.o\n#12 3.4 [2/3] x") == [
        (12, 340, "b.cpp.o", True),
        (2, 3, "x", True),
    ]
    assert reached(
        "[  3%] Building CXX object src/a.cpp.o\n[ 12%] Built target a\n[100%] Linking CXX executable b\n[x%] no"
    ) == [
        (3, 100, "a.cpp.o", False),
        (12, 100, "Built target a", False),
        (100, 100, "Linking CXX executable b", False),
    ]


def test_cargo() -> None:
    """As cargo 1.x has printed it: without a terminal, and as if there was one (CARGO_TERM_PROGRESS_WHEN and _WIDTH)."""
    plain = "   Compiling b v0.2.0 (/tmp/b)\n   Compiling a v0.1.0 (/tmp/a)\n    Finished `dev` profile [unoptimized]"
    assert reached(plain) == [(1, 0, "b v0.2.0", False), (2, 0, "a v0.1.0", False)]
    bar = (
        "   Compiling b v0.2.0 (/tmp/b)\n"
        "    Building [                             ] 0/2: b                           \r   Compiling a v0.1.0 (/tmp/a)\n"
        "    Building [=============>               ] 1/2: a(bin)                      \r    Finished `dev` profile\n"
    )
    assert reached(bar) == [(1, 0, "b v0.2.0", False), (0, 2, "b", False), (1, 2, "a(bin)", False)]


def test_pip() -> None:
    text = """
Collecting numpy
Building wheels for collected packages: one, two, three
  Building wheel for one (pyproject.toml): started
  Building wheel for one (pyproject.toml): still running...
  Building wheel for one (pyproject.toml): finished with status 'done'
  Building wheel for two (setup.py): started
  Building wheel for two (setup.py): finished with status 'error'
"""
    assert reached(text) == [
        (0, 3, "", False),
        (0, 3, "one", False),
        (1, 3, "one", False),
        (1, 3, "two", False),
        (2, 3, "two", False),
    ]


def test_an_image_build_has_its_steps() -> None:
    lines = ("[ 12%] Built target a", "   Compiling b v0.2.0", "Building wheels for collected packages: one")
    assert reached("\n".join(f"#7 1.25 {line}" for line in lines)) == []
    assert reached("#7 1.25     Building [=>   ] 1/2: a") == []


def test_what_says_nothing_of_itself(tmp_path: Path) -> None:
    assert reached("go: downloading x\n[INFO] 3/4\n50%\nmake[1]: Entering directory '/src'") == []
    counted: list[tuple[int, int]] = []
    bar = Bar()
    with BuildLog(tmp_path / "x.log", bar, lambda: 0.0, count=lambda done, total: counted.append((done, total))) as log:
        for line in (
            "[ 12%] Built target a",
            "[3/4] b.o",
            "error[E0425]: cannot find value `x`",
            "  --> src/main.rs:2:5",
        ):
            log.take(line)
    assert bar.seen == [(12, 100), (3, 4)]
    assert counted == [(3, 4)], "what is left is of files, and of no percents"
    assert (
        "the first error:\n    error[E0425]: cannot find value `x`\n      --> src/main.rs:2:5"
        in log.failure("x", "y").what
    )
