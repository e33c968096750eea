"""What happens in a run, for programs: one value an event, and its line of JSON (`schemas/events.schema.json`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

__all__ = [
    "Event",
    "Events",
    "Line",
    "Progressed",
    "Recorded",
    "RunBegan",
    "RunEnded",
    "TaskBegan",
    "TaskEnded",
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
class Recorded(Event):
    """A compile or an image was made: its record, as the cache keeps it."""

    name: ClassVar[str] = "recorded"
    record: Mapping[str, Any]


Events = Callable[[Event], None]
"""Who is told. Never raises: what cannot be written costs the events, never the build."""


def encode(event: Event, at: float) -> str:
    """Return an event's line; `at` in Unix seconds. ASCII alone, so that no terminal obeys it."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    return json.dumps({"format": FORMAT, "at": round(at, 3), "event": event.name, **values}) + "\n"
