"""One run of doit: its plan, its session, what it has decided, and what has come of its tasks."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidDodoFile, TaskFailed

from imagetiers.config.layout import Layout
from imagetiers.config.model import Pipeline, Trust
from imagetiers.errors import ImagetiersError, Interrupted, PipelineError, Problem, UndeclaredError, os_problem
from imagetiers.events import Events
from imagetiers.planning.decide import Decisions, builds_between, decide, default_tasks, run_before, will_run
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.state.observe import clear_forced, forced_tasks, observe
from imagetiers.suggestions import did_you_mean
from imagetiers.tasks.asked import ASKED, verbs_of
from imagetiers.tasks.options import refused
from imagetiers.tasks.start import (
    Variables,
    given_variables,
    open_plan,
    read_trust,
    read_volume,
    unreadable_names,
)

if TYPE_CHECKING:
    from imagetiers.building.deadline import Deadline

__all__ = ["Act", "Connect", "Invocation", "UnknownTiers"]

Act = Callable[[Callable[[Session], None]], TaskFailed | None]
"""Runs a task's work: given what to do with a session, it returns what doit makes of a failure."""

UnknownTiers = Callable[[str, Mapping[str, Any], list[str]], list[Problem]]
"""Says of a command, its options and the tiers that it names which of these there are not."""

Connect = Callable[[Layout, Pipeline, Trust, Events | None], Services]


class Invocation:
    """A doit in one checkout and variant. Raises InvalidDodoFile when the pipeline is wrong.

    Making it reads files and does nothing else. `verbs` are those of the tasks of tiers that the command needs, `default` the
    tasks of a doit without words. `changed` says whether anything was made.
    """

    def __init__(self, root: Path, variables: Variables, connect: Connect) -> None:
        unreadable = unreadable_names()
        if unreadable:
            raise refused(unreadable, "the environment")
        self._variant, self._given = variables("variant", None), given_variables()
        self._trust = read_trust(variables)
        self.layout = Layout(root.resolve(), read_volume(), self._trust.prefix)
        try:
            self._opened = open_plan(self.layout, self._variant, self._given)
        except PipelineError as error:
            where = "the command line" if isinstance(error, UndeclaredError) else "the pipeline"
            raise refused(error.problems, where) from None
        self.variants = self._opened.variants
        self.plan: Plan = self._opened.plan
        self._connect = connect
        self.default = default_tasks(self.plan, self._trust)
        asked = ASKED.get()
        self.verbs, self.cleans = verbs_of(asked, self.default), asked is None
        self._events = asked.events if asked is not None else None
        self._session: Session | None = None
        self._decisions: Decisions | None = None
        self._order: tuple[str, ...] | None = None
        self._beginning, self._lock = threading.RLock(), threading.Lock()
        self.changed = False
        self._deadlines: dict[str, Deadline] = {}
        self._failed: set[str] = set()

    @property
    def session(self) -> Session:
        """The session of this doit. It begins when it is first asked for: then signals are taken over (in the main thread).

        Raises InvalidDodoFile when the environment is wrong.
        """
        with self._beginning:
            if self._session is None:
                try:
                    services = self._connect(self.layout, self.plan.pipeline, self._trust, self._events)
                except PipelineError as error:
                    raise refused(error.problems, "the pipeline") from None
                self._opened.keep()
                gc.freeze()
                gc.enable()
                self._session = Session(self.plan, self.layout, services, self._trust)
            return self._session

    def decisions(self) -> Decisions:
        """Return what must run, and why. Decided once, so that a run does what the plan says, and no task decides for another.

        What somebody else does meanwhile is found by the operations, which look again once they hold their lock.
        """
        with self._lock:
            if self._decisions is None:
                self._decisions = decide(self.plan, observe(self.session))
            return self._decisions

    def reason(self, task: str) -> str:
        """Say why a task must run; nothing where it need not."""
        reason = self.decisions()[task]
        return "" if reason is None else str(reason)

    def plans(self) -> list[Plan]:
        """Plan the pipeline in all its variants. Raises PipelineError."""
        plans = []
        for variant in (None, *self.variants):
            opened = self._opened if variant == self._variant else open_plan(self.layout, variant, self._given)
            opened.keep()
            plans.append(opened.plan)
        return plans

    def whole(self) -> Session:
        """Return the session with all that its plan is made of: a remembered plan has no contents of files.

        They are read before the first thing is made, so that what is edited while it runs is no part of it.
        """
        session = self.session
        with self._beginning:
            if self._opened.remembered:
                from imagetiers.tasks.reading import read_whole

                self._opened = read_whole(self.layout, self._variant, self.plan)
                self._session = session = replace(session, plan=self._opened.plan)
        return session

    def act(self, work: Callable[[Session], None]) -> TaskFailed | None:
        """Run an action; a failure that a person may meet becomes a clean text, an interruption a KeyboardInterrupt."""
        try:
            session = self.session
            if session.services.cancel.requested:
                raise Interrupted(Problem("", "interrupted"))
            work(session)
        except Interrupted as error:
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt from None
            return TaskFailed(str(error))
        except (ImagetiersError, InvalidDodoFile) as error:
            return TaskFailed(str(error))
        except OSError as error:
            return TaskFailed(str(os_problem(error)))
        return None

    def make(self, task: str, work: Callable[[Session, TierPlan], None]) -> TaskFailed | None:
        """Run what makes something of a tier, unless what it needs has failed."""

        def all_of_it(_: Session) -> None:
            self.changed = True
            session = self.whole()
            work(session, session.plan.tiers[task.partition(":")[2]])
            clear_forced(self.layout, task)

        # With --continue, doit goes on to a task although what it needs has failed: an image that has not passed its checks
        # would be published.
        failed = [needed for needed in run_before(self.plan, task) if needed in self._failed]
        if failed:
            result: TaskFailed | None = TaskFailed(str(Problem(task, f"was not done, since {failed[0]} failed")))
        else:
            result = self.act(all_of_it)
        if result is not None:
            self._failed.add(task)
        return result

    def done_by(self, verb: str) -> tuple[str, ...]:
        """Return the tiers for which this doit does that, as it was decided when it began; none where nobody can tell."""
        return tuple(task.partition(":")[2] for task in self._will_run() if task.startswith(f"{verb}:"))

    def builds_before(self, task: str, later: str) -> bool:
        """Say whether this process builds further images between two tasks, and compiles nothing, which takes all there is."""
        from multiprocessing import parent_process

        # With `doit -n` another process may do the later one.
        return parent_process() is None and builds_between(self._will_run(), task, later)

    def _will_run(self) -> tuple[str, ...]:
        decisions = self.decisions()
        with self._lock:
            if self._order is None:
                asked = ASKED.get()
                selected = (asked.words or self.default) if asked is not None else ()
                self._order = will_run(self.plan, decisions, selected)
            return self._order

    def forgotten(self, task: str) -> bool:
        """Say whether `doit forget` has asked for a task."""
        # Not asked of the decision: a task with a time limit does not wait for it any more.
        return task in forced_tasks(self.layout)

    def ask_within(self, task: str, timeout: float | None, ask: Callable[[], str]) -> str:
        """Ask whether a task is up to date, within its time: a compile's begins with the first request of it.

        A verify's begins anew when it is run: its image may have to be built before.
        """
        self.session  # noqa: B018  begun here and not within, which is another thread
        if timeout is None:
            return ask()
        deadline = self._deadlines[task] = self._deadline(task, timeout)
        try:
            return deadline.within(task, ask)
        except ImagetiersError as error:
            if not deadline.reached:
                raise
            return error.problems[0].what

    def deadline(self, task: str, timeout: float | None) -> Deadline:
        """Return when a task that now runs must end: its time has begun where it was asked whether it is up to date."""
        return self._deadlines.pop(task, None) or self._deadline(task, timeout)

    def _deadline(self, task: str, timeout: float | None) -> Deadline:
        from imagetiers.building.deadline import COMPILE_HINT, UNCACHED_HINT, Deadline

        step = self.plan.tiers[task.partition(":")[2]].compile
        uncached = step is not None and step.config.ccache is None
        return Deadline(timeout, hint=UNCACHED_HINT if uncached else COMPILE_HINT)

    def unknown_tiers(self, command: str, _: Mapping[str, Any], names: list[str]) -> list[Problem]:
        """Return a problem for each name that is no tier's."""
        return [
            Problem(command, f"there is no tier '{name}'", did_you_mean(name, self.plan.tiers, "tiers"))
            for name in dict.fromkeys(names)
            if name not in self.plan.tiers
        ]
