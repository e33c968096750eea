"""The last build of a pipeline, of what its records say: what ran when, what waited for what, what took the longest. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from imagetiers.planning.decide import run_before
from imagetiers.planning.plan import Plan

__all__ = ["Span", "Timeline", "last_build"]

_APART = 300.0
"""Seconds without any build between two builds of a pipeline."""


@dataclass(frozen=True, slots=True)
class Span:
    """One compile or image build: its task, when it began (Unix seconds), how long it took, and where the seconds went.

    `run` is what the tasks of one build have in common, '' where the record does not say it. `waited_for` is the task that it
    began after, '' for one that needed none of this build; `critical` says that the build would have been shorter if it had
    been.
    """

    task: str
    began: float
    seconds: float
    phases: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    waited_for: str = ""
    critical: bool = False
    run: str = ""

    @property
    def ended(self) -> float:
        """When it ended, in Unix seconds."""
        return self.began + self.seconds


@dataclass(frozen=True, slots=True)
class Timeline:
    """A build's spans, in the order in which they began."""

    spans: tuple[Span, ...]

    @property
    def began(self) -> float:
        """When the first one began, in Unix seconds."""
        return self.spans[0].began

    @property
    def seconds(self) -> float:
        """From the first one's beginning to the last one's end."""
        return max(span.ended for span in self.spans) - self.began


def last_build(plan: Plan, spans: Iterable[Span]) -> Timeline | None:
    """Return the newest build of these spans, None of none.

    What has the run of the newest one belongs to it. Where that is not known, it is what has no five minutes of nothing between
    it. Of a task that ran twice in them the last one counts.
    """
    newest: dict[str, Span] = {}
    since = None
    latest = sorted(spans, key=lambda span: span.ended, reverse=True)
    for span in latest:
        if span.run != latest[0].run:
            continue
        if not span.run and since is not None and span.ended < since - _APART:
            break
        since = span.began if since is None else min(since, span.began)
        newest.setdefault(span.task, span)
    if not newest:
        return None
    before = {task: _waited_for(plan, span, newest) for task, span in newest.items()}
    critical: set[str] = set()
    task = max(newest, key=lambda name: newest[name].ended)
    while task and task not in critical:
        critical.add(task)
        task = before[task]
    found = [replace(span, waited_for=before[task], critical=task in critical) for task, span in newest.items()]
    return Timeline(tuple(sorted(found, key=lambda span: (span.began, span.task))))


def _waited_for(plan: Plan, span: Span, spans: Mapping[str, Span]) -> str:
    """Return the task whose end this one had to wait for: of those that it needs, the last to end before it began."""
    if span.task.partition(":")[2] not in plan.tiers:
        return ""
    needed = [spans[task] for task in run_before(plan, span.task) if task in spans]
    done = [other for other in needed if other.began < span.began]
    return max(done, key=lambda other: other.ended).task if done else ""
