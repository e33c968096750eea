"""A build's full log in a file, and what people need of it: how far it is, the first error, and where the time went."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Self

from imagetiers.building.build_tools import BuildTools
from imagetiers.building.masking import Masker
from imagetiers.building.stopwatch import Stopwatch
from imagetiers.errors import Problem
from imagetiers.services import Bar

__all__ = ["BuildLog"]

_STEP = re.compile(r"#(\d+) (\[(?:([^\]]+) )?\d+/(\d+)\].*)")  # BuildKit's `#7 [builder 4/6] RUN ...`
_STEP_ENDED = re.compile(r"#(\d+) (?:DONE|CACHED|ERROR)")
_ERROR = re.compile(
    r"\b(fatal )?error(\[E\d+\])?:|CMake Error|undefined reference|ninja: error|No space left|Killed\b|^E: |"
    r"command not found|ERROR: failed to|Traceback \(most recent"
)
_HEADING = "== "
_FAILED = "FAILED: "  # ninja's: then come the command, the files that include each other, and the error
_EXCERPT = 6  # lines from the error on
_BEFORE = 20  # lines between what has failed and the error
_LONGEST = 300  # characters of a line of it
_TAIL = 12


class BuildLog:
    """Takes a build's lines one by one. `path` is the file with all of them; the values of `secrets` are masked.

    A line `== NAME` begins a part of the build. `now` is the clock by which the parts are measured. `count` is told how many
    files the build has made, of how many.
    """

    def __init__(
        self,
        path: Path,
        progress: Bar,
        now: Callable[[], float],
        secrets: Iterable[bytes] = (),
        count: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self.path = path
        self._tools = BuildTools()
        self._count = count
        self._watch = Stopwatch(now)
        self._part = ""
        self._masker = Masker(secrets)
        self._progress = progress
        self._file: IO[str] | None = None
        self._first: list[str] = []
        self._error_at: int | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._steps: dict[str, bool] = {}  # by BuildKit's number: has it ended?
        self._stages: dict[str, int] = {}  # how many steps each stage has of which one has begun

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._watch.lap(self._part)
        if self._file is not None:
            self._file.close()

    @property
    def parts(self) -> Mapping[str, float]:
        """The seconds of each part of a build that has ended, in order; what comes before the first has no name."""
        return {name: seconds for name, seconds in self._watch.phases.items() if name}

    def take(self, line: str) -> None:
        """Write a line to the file; let it move the progress and be searched for the first error."""
        for clear in self._masker.feed(line):
            self._take(clear)

    def _flush(self) -> None:
        for line in self._masker.close():
            self._take(line)

    def _take(self, line: str) -> None:
        if self._file is not None:
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except OSError as error:  # it does not know its name
                raise OSError(error.errno, error.strerror, str(self.path)) from error
        if line.strip():
            self._tail.append(line)
        self._excerpt(line)
        if line.startswith(_HEADING):
            self._watch.lap(self._part)
            self._part = line.removeprefix(_HEADING).strip()
            return
        reached = self._tools.read(line)
        if reached is not None:
            if reached.files:
                self._count(reached.done, reached.total)
            self._progress.update(reached.done, reached.total, reached.note)
            return
        step = _STEP.match(line)
        if step is not None:
            self._steps.setdefault(step[1], False)  # it is named again when others have written in between
            self._stages[step[3] or ""] = int(step[4])
            self._step(step[2])
        ended = _STEP_ENDED.match(line)
        if ended is not None and ended[1] in self._steps:
            self._steps[ended[1]] = True
            self._step("")

    def _excerpt(self, line: str) -> None:
        """Keep the first error with its context: what it is the error of, and the lines that follow it."""
        is_error = _ERROR.search(line) is not None
        if self._error_at is None and (is_error or self._first or line.startswith(_FAILED)):
            if is_error or len(self._first) >= _BEFORE:
                self._error_at = len(self._first)
        elif self._error_at is None or len(self._first) - self._error_at >= _EXCERPT:
            return
        self._first.append(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…")

    def _step(self, note: str) -> None:
        self._progress.update(sum(self._steps.values()), sum(self._stages.values()), note)

    def failure(self, where: str, what: str) -> Problem:
        """Return the problem of a failed build: the first error of its log, else its end, and the log's path."""
        self._flush()
        lines = self._first or self._tail
        if not lines:
            return Problem(where, f"{what}, and printed nothing", f"the full log is {self.path}")
        excerpt = "\n".join(f"    {line}" for line in lines)
        title = "the first error" if self._first else "its last lines"
        return Problem(where, f"{what}; {title}:\n{excerpt}", f"the full log is {self.path}")
