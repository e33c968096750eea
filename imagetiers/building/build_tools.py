"""How far a build is, from what its tool prints: ninja, make as CMake writes it, cargo and pip; of others nothing is known."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["BuildTools", "Reached"]

_NINJA = re.compile(r"(?:#\d+ [\d.]+ )?\[(\d+)/(\d+)\]\s*(.*)")
_MAKE = re.compile(r"\[ {0,2}(\d{1,3})%\]\s*(.*)")
_CARGO_BAR = re.compile(r"Building \[[=> ]*\] (\d+)/(\d+)(?:: ([^\r\x1b]*))?")  # CARGO_TERM_PROGRESS_WHEN=always
_CARGO = re.compile(r" *(?:Compiling|Checking|Downloaded) (\S+ v\S+)")
_PIP_ALL = re.compile(r"Building wheels for collected packages: (.+)")
_PIP = re.compile(r" *Building wheel for (\S+) \([^)]*\): (started|finished)")
_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Reached:
    """So much is done of so much, and what is done now; `total` 0: nobody knows of how much.

    `files`: they are files that are made, and not percents, crates or wheels.
    """

    done: int
    total: int
    note: str
    files: bool = False


class BuildTools:
    """Takes a build's lines one by one.

    In an image build, whose lines begin with BuildKit's `#7 1.2`, its steps say how far it is; ninja alone says it better.
    """

    def __init__(self) -> None:
        self._crates = 0
        self._wheels = self._all_wheels = 0

    def read(self, line: str) -> Reached | None:
        """Return how far the build is, None where the line does not say."""
        if (ninja := _NINJA.match(line)) is not None:
            return Reached(int(ninja[1]), int(ninja[2]), ninja[3].rsplit("/", 1)[-1], files=True)
        if (make := _MAKE.match(line)) is not None:
            return Reached(min(int(make[1]), _PERCENT), _PERCENT, make[2].rsplit("/", 1)[-1])
        return None if line.startswith("#") else self._cargo(line) or self._pip(line)

    def _cargo(self, line: str) -> Reached | None:
        bars = list(_CARGO_BAR.finditer(line))  # one line of a log, as many as fit on the terminal's
        if bars:
            self._crates = int(bars[-1][1])
            return Reached(self._crates, int(bars[-1][2]), (bars[-1][3] or "").strip())
        if (crate := _CARGO.match(line)) is not None:
            self._crates += 1
            return Reached(self._crates, 0, crate[1])
        return None

    def _pip(self, line: str) -> Reached | None:
        if (listed := _PIP_ALL.match(line)) is not None:
            self._all_wheels += len(listed[1].split(", "))
            return Reached(self._wheels, self._all_wheels, "")
        if (wheel := _PIP.match(line)) is None:
            return None
        self._wheels += wheel[2] == "finished"
        return Reached(self._wheels, max(self._wheels, self._all_wheels), wheel[1])
