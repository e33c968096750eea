"""A reporter that tells events what doit does, beside what it prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from imagetiers import __version__
from imagetiers.events import RunBegan, RunEnded, TaskBegan, TaskEnded
from imagetiers.session import Session
from imagetiers.tasks.doit_plugins import Reporter
from imagetiers.visible import visible

__all__ = ["Telling"]


class Telling(Reporter):
    """Reports on the console, and tells `session.services.events`."""

    _session: Session | None = None  # until it has begun, which can be refused

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        """Begin. A run that is refused has begun, and has ended without a task."""
        session = self.begin()
        assert isinstance(session, Session)  # noqa: S101  Tasks.config has put it there
        self._session, self._tell, self._began = session, session.services.events, time.monotonic()
        self._starts: dict[str, float] = {}
        self._counts = dict.fromkeys(("done", "up to date", "failed"), 0)
        plan = session.plan.pipeline
        words = tuple(visible(word) for word in sys.argv[1:])
        self._tell(RunBegan(__version__, plan.name, plan.variant, session.trust.label, words))
        super().initialize(tasks, selected_tasks)

    def write(self, text: str) -> None:
        """Write what doit says, above what the display shows; a file of doit's `-o` gets it as it always did."""
        if self._session is None or self.outstream is not sys.stdout:
            super().write(text)  # type: ignore[no-untyped-call]
        else:
            self._session.services.console.write(text)

    def write_error(self, text: str) -> None:
        """Write to stderr, above what the display shows."""
        if self._session is None:
            super().write_error(text)
        else:
            self._session.services.console.write(text, error=True)

    def execute_task(self, task: Any) -> None:
        """A task begins. Groups of tasks are left out."""
        if task.has_subtask:
            super().execute_task(task)
            return
        self._starts[task.name] = time.monotonic()
        up_to_date = (task.meta or {}).get("up_to_date")
        why = up_to_date.reason if up_to_date is not None else ""
        self._tell(TaskBegan(task.name, visible(why)))
        super().execute_task(task)

    def add_success(self, task: Any) -> None:
        """It is done."""
        self._ended(task, "done")
        super().add_success(task)  # type: ignore[no-untyped-call]

    def add_failure(self, task: Any, fail: Any) -> None:
        """It has failed, or was not begun since something that it needs has."""
        outcome = "not done" if type(fail).__name__ == "UnmetDependency" else "failed"
        self._ended(task, outcome, visible(fail.get_msg().strip()))
        super().add_failure(task, fail)

    def skip_uptodate(self, task: Any) -> None:
        """There is nothing to do for it. Groups of tasks are left out."""
        if not task.has_subtask:
            self._ended(task, "up to date")
        super().skip_uptodate(task)  # type: ignore[no-untyped-call]

    def complete_run(self) -> None:
        """The run is over."""
        if self._session is not None:
            self._session.background.end()
            done, up_to_date, failed = self._counts.values()
            self._tell(RunEnded(round(time.monotonic() - self._began, 3), done, up_to_date, failed))
        super().complete_run()

    def _ended(self, task: Any, outcome: str, error: str = "") -> None:
        if task.has_subtask and outcome == "done":
            return
        counted = "failed" if outcome == "not done" else outcome
        self._counts[counted] += 1
        began = self._starts.pop(task.name, None)
        seconds = 0.0 if began is None else round(time.monotonic() - began, 3)
        self._tell(TaskEnded(task.name, outcome, seconds, error))
