"""A run as it is seen while it lasts: a line a task, the end of the log that matters, and a line of it all. Pure.

`LiveBuild` takes the events of a run, and lays out what they come to at any moment, for a width and a height. Where there is
less room, the details of a line go first, then the log, then tasks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from imagetiers.events import Compiling, Event, LogBegan, Progressed, RunBegan, TaskBegan, TaskEnded, TaskForecast
from imagetiers.report.amounts import age_text
from imagetiers.visible import visible

__all__ = ["LiveBuild", "Work", "details"]

_NAME_MOST = 34
_LOG_LINES = 4
_BAR = 20
_TALL = 12  # rows of a terminal that has room for a log
_GAP = "  "

_TRANSFER = re.compile(r"\b(pull|push)\b")

ReadEnd = Callable[[str, int], Sequence[str]]
"""Return the last lines of a log: of which file, and how many."""


@dataclass
class Work:
    """A task that runs. `since` is when what it does now began, in seconds of any clock; `began`, when itself did."""

    task: str
    began: float
    since: float
    title: str = ""
    done: int = 0
    total: int = 0
    first: int = 0
    note: str = ""
    log: str = ""
    forecast: float | None = None
    forecast_at: float = 0.0
    compiling: Compiling | None = None

    def left(self, at: float) -> float | None:
        """Return the seconds that it goes on: by its objects, by records of builds like it, a transfer by its pieces."""
        if self.compiling is not None and self.compiling.left is not None:
            return self.compiling.left
        if self.forecast is not None:
            left = self.forecast - (at - self.forecast_at)
            return left if left > 0 else None
        if not _TRANSFER.search(self.title):
            return None  # one step of a build takes a second, and the next an hour
        moved = self.done - self.first
        return (at - self.since) / moved * (self.total - self.done) if moved > 0 and self.done < self.total else None

    def rate(self, at: float) -> float | None:
        """Return how many steps it has done a second, None of too few."""
        moved, spent = self.done - self.first, at - self.since
        return moved / spent if moved >= 5 and spent >= 1 else None  # noqa: PLR2004


def details(work: Work, at: float) -> list[tuple[int, str]]:
    """Return what is known of a task's progress, in the order of a line, each with its importance: 0 is the most."""
    found: list[tuple[int, str]] = []
    doing = work.title.removeprefix(work.task).lstrip(": ")
    if doing:
        found.append((0, doing))
    if work.total:
        found.append((0, f"{work.done}/{work.total}"))
        found.append((5, f"{100 * work.done // work.total} %"))
    left = work.left(at)
    if left is not None:
        found.append((1, f"{age_text(left)} left"))
    found.append((3 if left is None else 7, f"after {age_text(at - work.began)}"))
    compiling = work.compiling
    if compiling is not None:
        if compiling.rate is not None:
            found.append((2, f"{100 * compiling.rate:.0f} % hits"))
        if compiling.jobs is not None:
            waits = f" +{compiling.waiting} waiting" if compiling.waiting else ""
            found.append((3, f"{compiling.jobs} {'job' if compiling.jobs == 1 else 'jobs'}{waits}"))
        if compiling.memory is not None and compiling.memory_limit:
            found.append((4, f"{compiling.memory / 1e9:.1f}/{compiling.memory_limit / 1e9:.1f} GB"))
    rate = work.rate(at)
    if rate is not None:
        found.append((6, f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.0f}/min"))
    return found


class LiveBuild:
    """What is known of a run."""

    def __init__(self) -> None:
        self.works: dict[str, Work] = {}
        self._failed: list[str] = []
        self._done = self._up_to_date = 0
        self._began: float | None = None

    def take(self, event: Event, at: float) -> None:
        """Take what has happened; `at` in seconds of any clock."""
        match event:
            case RunBegan():
                self._began = at
            case TaskBegan(task):
                self._work(task, at)
            case Progressed(title, done, total, note):
                self._progress(title, done, total, note, at)
            case LogBegan(title, path):
                self._progress(title, 0, 0, "", at)
                self._work(title.partition(": ")[0], at).log = path
            case TaskForecast(task, seconds):
                work = self._work(task, at)
                work.forecast, work.forecast_at = seconds, at
            case Compiling(task):
                self._work(task, at).compiling = event
            case TaskEnded(task, outcome):
                self._end(task, outcome)
            case _:
                pass

    def _work(self, task: str, at: float) -> Work:
        return self.works.setdefault(task, Work(task, at, at))

    def _progress(self, title: str, done: int, total: int, note: str, at: float) -> None:
        work = self._work(title.partition(": ")[0], at)
        if title != work.title or (
            total != work.total and done < work.done
        ):  # another piece of work, such as the compile
            work.title, work.since, work.first = title, at, done
        work.done, work.total, work.note = done, total, note

    def _end(self, task: str, outcome: str) -> None:
        for name in [name for name in self.works if name == task or name.startswith(f"{task} ")]:
            del self.works[name]
        if outcome == "failed":
            self._failed.append(task)
        self._done += outcome == "done"
        self._up_to_date += outcome == "up to date"

    def frame(self, at: float, width: int, height: int, read: ReadEnd) -> list[Text]:
        """Return the lines to show, none of them wider than `width`; none while nothing has a progress."""
        shown = [work for work in self.works.values() if work.title or work.log]
        if not shown:
            return []
        most = max(1, height - 2 - len(self._failed))
        lines = [Text(f"failed: {visible(task)}", style="red") for task in self._failed]
        name_width = min(_NAME_MOST, width // 2, max(cell_len(visible(work.task)) for work in shown))
        lines += [_line(work, at, width, name_width) for work in shown[:most]]
        if len(shown) > most:
            lines[-1] = Text(f"and {len(shown) - most + 1} more")
        room = height - len(lines) - 2
        if height >= _TALL and room > 0:
            lines += self._log(shown, at, min(_LOG_LINES, room), read)
        lines.append(self._summary(at))
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return lines

    def _log(self, shown: list[Work], at: float, count: int, read: ReadEnd) -> list[Text]:
        """Return the end of the log of what goes on for longest: by what is known, else what has run for longest."""
        logging = [work for work in shown if work.log]
        if not logging:
            return []
        chosen = max(logging, key=lambda work: (work.left(at) or 0.0, at - work.began))
        return [Text(f"  │ {visible(line).expandtabs()}", style="dim") for line in read(chosen.log, count)]

    def _summary(self, at: float) -> Text:
        counts = [
            (len(self.works), "running"),
            (self._done, "done"),
            (self._up_to_date, "up to date"),
            (len(self._failed), "failed"),
        ]
        told = [f"{count} {what}" for count, what in counts if count]
        if self._began is not None:
            told.append(age_text(at - self._began))
        return Text(", ".join(told), style="dim")


def _line(work: Work, at: float, width: int, name_width: int) -> Text:
    name = set_cell_size(visible(work.task), name_width)
    parts = details(work, at)
    while len(parts) > 1 and name_width + sum(cell_len(text) + len(_GAP) for _, text in parts) > width:
        parts.remove(max(parts))
    line = Text(name, style="bold")
    for _, text in parts:
        line.append(_GAP + text, style="not bold")
    room = width - line.cell_len - len(_GAP)
    if work.total and room >= _BAR:
        full = _BAR * work.done // work.total
        line.append(_GAP)
        line.append("━" * full, style="not bold green")
        line.append("━" * (_BAR - full), style="not bold dim")
        room -= _BAR + len(_GAP)
    note = visible(work.note)
    if note and room > 10:  # noqa: PLR2004  what is shorter says nothing
        line.append(_GAP + note, style="not bold dim")
    return line
