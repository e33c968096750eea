"""What happens in a run, for programs: one value an event, and its line of JSON (`schemas/events.schema.json`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

__all__ = [
    "Compiling",
    "Event",
    "Events",
    "Line",
    "LogBegan",
    "Progressed",
    "Recorded",
    "RunBegan",
    "RunEnded",
    "TaskBegan",
    "TaskEnded",
    "TaskForecast",
    "all_of",
    "encode",
]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    name: ClassVar[str]


@dataclass(frozen=True, slots=True)
class RunBegan(Event):
    """A doit has begun with these words; `version` is that of imagetiers."""

    name: ClassVar[str] = "run began"
    version: str
    pipeline: str
    variant: str | None
    trust: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """It is over, after so many seconds: how many tasks were done, were up to date, have failed."""

    name: ClassVar[str] = "run ended"
    seconds: float
    done: int
    up_to_date: int
    failed: int


@dataclass(frozen=True, slots=True)
class TaskBegan(Event):
    """A task runs, because of `why`."""

    name: ClassVar[str] = "task began"
    task: str
    why: str


@dataclass(frozen=True, slots=True)
class TaskEnded(Event):
    """A task is over. `outcome`: done, failed, up to date, or not done (what it needs has failed); `error` of a failure."""

    name: ClassVar[str] = "task ended"
    task: str
    outcome: str
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class Line(Event):
    """A line that people read."""

    name: ClassVar[str] = "line"
    text: str


@dataclass(frozen=True, slots=True)
class Progressed(Event):
    """How far a piece of work is; at most one a second and title, and the last."""

    name: ClassVar[str] = "progress"
    title: str
    done: int
    total: int
    note: str


@dataclass(frozen=True, slots=True)
class LogBegan(Event):
    """The full log of a piece of work is written to the file `path`, line by line."""

    name: ClassVar[str] = "log began"
    title: str
    path: str


@dataclass(frozen=True, slots=True)
class TaskForecast(Event):
    """How many seconds a task is going to take, from records of builds like it: the median, the shortest, the longest."""

    name: ClassVar[str] = "forecast"
    task: str
    seconds: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Compiling(Event):
    """How a compile goes, every few seconds. Seconds are those of compilers, bytes those of its container.

    `saved` is what the hits' objects took when they were compiled, None where too little is known of them; `left` is how
    long it goes on, from what the objects took that are still to come, None where nobody knows. `jobs` are compilers that
    run and `waiting` those that wait for memory, None where nobody counts them, as `memory`.
    """

    name: ClassVar[str] = "compiling"
    task: str
    hits: int
    misses: int
    saved: float | None
    compiled: float
    left: float | None
    jobs: int | None = None
    waiting: int | None = None
    memory: int | None = None
    memory_limit: int | None = None

    @property
    def rate(self) -> float | None:
        """Hits as a fraction of all so far, in seconds where these are known, else in calls; None of nothing."""
        if self.saved is not None and self.saved + self.compiled > 0:
            return self.saved / (self.saved + self.compiled)
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None


@dataclass(frozen=True, slots=True)
class Recorded(Event):
    """A compile or an image was made: its record, as the cache keeps it."""

    name: ClassVar[str] = "recorded"
    record: Mapping[str, Any]


Events = Callable[[Event], None]
"""Who is told. Never raises: what cannot be written costs the events, never the build."""


def all_of(*listeners: Events) -> Events:
    """Return what tells each of them, in this order."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell


def encode(event: Event, at: float) -> str:
    """Return an event's line; `at` in Unix seconds. ASCII alone, so that no terminal obeys it."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    return json.dumps({"format": FORMAT, "at": round(at, 3), "event": event.name, **values}) + "\n"
