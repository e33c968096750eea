"""The plan as doit tasks. With `doit_plugins`, the only code that knows doit.

No task has `file_dep` or `targets`: whether it is up to date is decided by keys and by what the engine, the folders and
the cache hold, which a fresh machine can do as well. doit's database only keeps `doit ignore`.
"""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidDodoFile, TaskFailed

from imagetiers.config.layout import Layout
from imagetiers.config.model import Pipeline, Trust
from imagetiers.errors import ImagetiersError, Interrupted, PipelineError, Problem, UndeclaredError, os_problem
from imagetiers.events import Events
from imagetiers.planning.decide import Decisions, decide, default_tasks, run_after, run_before
from imagetiers.planning.keys import short
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.state.observe import clear_forced, forced_tasks, mark_forced, observe
from imagetiers.suggestions import did_you_mean
from imagetiers.tasks.ccache import ccache_tasks
from imagetiers.tasks.check import check_task
from imagetiers.tasks.gc import gc_tasks
from imagetiers.tasks.options import duration, form, option, refused, string, switch, where_called
from imagetiers.tasks.plan import bake_task, plan_task
from imagetiers.tasks.scan import scan_tasks
from imagetiers.tasks.setup import setup_tasks
from imagetiers.tasks.start import (
    Variables,
    given_variables,
    open_plan,
    read_trust,
    read_volume,
    unreadable_names,
)
from imagetiers.tasks.status import report_task, seeing_tasks, status_task
from imagetiers.tasks.supply_chain import supply_chain_task
from imagetiers.tasks.telling import Telling
from imagetiers.tasks.tier_task import ASKED, TierTask, verbs_of
from imagetiers.tasks.trust import trust_tasks
from imagetiers.tasks.uptodate import UpToDate
from imagetiers.tasks.watch import watch_task

if TYPE_CHECKING:
    from imagetiers.building.deadline import Deadline

__all__ = ["Tasks"]

Task = dict[str, Any]


def _where(value: str) -> str:
    """Read on which GPUs checks run. Raises ValueError."""
    where: str = form("auto|none|vertex", "names no GPUs", "write auto, none or vertex")(value)
    return where


_FILE = string("names no file", "a path, or - for the standard output")
REBUILD = switch("rebuild", "do it although it need not be done")
NO_CACHE = switch("no-cache", "do it without the layers that BuildKit has cached, although it need not be done")

_SHOWN = 4  # tiers of a group that its line in doit list names
_AS_JSON, _OBJECTS = "--json", "--objects"  # which doit leaves among the names when they stand behind one
TIMEOUT = option("timeout", "end it gracefully after so long, such as 3h30m", duration, default=None)
COMPILE_PARAMS = [
    REBUILD,
    NO_CACHE,
    switch("if-needed", "only when the image that takes the wheels must be built"),
    TIMEOUT,
]
_REPORTS = ("junit", "json")  # what a verify writes when it is asked, also of an image that has passed before
VERIFY_PARAMS = [
    REBUILD,
    TIMEOUT,
    option("gpu", "auto, none, or vertex: jobs of Vertex AI, one a GPU", _where, default="auto"),
    *(
        option(name, f"write how each check went to this file, as {what} (- = stdout)", _FILE, default="")
        for name, what in zip(_REPORTS, ("JUnit's XML", "JSON, with the device code"), strict=True)
    ),
]


def _mode(value: str) -> str:
    """Read whose builds a file is for. Raises ValueError."""
    from imagetiers.report.cloudbuild import Mode

    mode: str = form("|".join(Mode.ALL), "is no mode", f"write {' or '.join(Mode.ALL)}")(value)
    return mode


class Tasks:
    """The task creators of one checkout and variant. Raises InvalidDodoFile when the pipeline is wrong.

    Making them reads files and does nothing else: `doit list` and `doit help` write nothing, and take nothing over.
    """

    def __init__(
        self, root: Path, variables: Variables, connect: Callable[[Layout, Pipeline, Trust, Events | None], Services]
    ) -> None:
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
        self._default = default_tasks(self.plan, self._trust)
        asked = ASKED.get()
        self._verbs, self._cleans = verbs_of(asked, self._default), asked is None
        self._events = asked.events if asked is not None else None
        self._session: Session | None = None
        self._decisions: Decisions | None = None
        self._beginning, self._lock = threading.RLock(), threading.Lock()
        self._changed = False
        self._deadlines: dict[str, Deadline] = {}
        self._failed: set[str] = set()

    @property
    def config(self) -> Task:
        """DOIT_CONFIG."""
        return {
            "default_tasks": [*self._default, "_summary"],
            "backend": "prompt",
            "dep_file": str(self.layout.work / "doit.db"),
            "par_type": "thread",  # processes hang on what they cannot pickle
            "reporter": type("Reporter", (Telling,), {"begin": staticmethod(lambda: self.session)}),
            "verbosity": 2,
        }

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

    # ---- task creators, in the order of `doit list` ----

    def check(self) -> Task:
        """check: pipeline.yaml, Dockerfiles and manifests, in every variant."""
        return check_task(self._act, lambda: self.session, self._plans, self.variants)

    def plan_task(self) -> Task:
        """plan: what would be done, why, and what it would take."""
        return plan_task(self._act)

    def compile(self) -> Iterator[Task | TierTask]:
        """compile:<tier>: wheels and other outputs."""
        tiers = [tier for tier in self.plan.tiers.values() if tier.compile is not None]
        return self._group("compile", "compile wheels and other outputs", tiers, self._compile_task)

    def image(self) -> Iterator[Task | TierTask]:
        """image:<tier>: images, parents first."""
        return self._group("image", "build images", list(self.plan.tiers.values()), self._image_task)

    def verify(self) -> Iterator[Task | TierTask]:
        """verify:<tier>: the checks of a tier and its ancestors."""
        return self._group("verify", "verify images", self._images(), self._verify_task)

    def pull(self) -> Iterator[Task | TierTask]:
        """pull:<tier>: bring images here that the registry holds."""
        return self._group("pull", "pull images that the registry holds", self._images(), self._pull_task)

    def push(self) -> Iterator[Task | TierTask]:
        """push:<tier>: publish verified images, parents first."""
        doc = "publish verified images, then move the friendly tags"
        return self._group("push", doc, self._images(), self._push_task)

    def _images(self) -> list[TierPlan]:
        return [self.plan.tiers[name] for name in self.plan.images]

    def explain(self) -> Task:
        """explain: why a tier would be built, down to the root cause."""
        return {
            "actions": [self._explain],
            "doc": "say why tiers would be built, or --objects compiled: doit explain [--json] [TIER...]",
            "pos_arg": "tiers",
            "params": [
                switch("json", "as JSON"),
                switch("objects", "which objects the last compile has compiled again, and why"),
            ],
            "meta": {"quiet": True, "wrong": functools.partial(self._unknown_tiers, "doit explain")},
        }

    def size(self) -> Task:
        """size: what images weigh."""
        return {
            "actions": [self._size],
            "doc": "show what images weigh, by layer, folder and package, and what is in them twice: doit size [TIER...]",
            "pos_arg": "tiers",
            "meta": {"quiet": True, "wrong": functools.partial(self._unknown_tiers, "doit size")},
        }

    def scan(self) -> Iterator[Task]:
        """scan: known vulnerabilities of images."""
        return scan_tasks(self._act, functools.partial(self._unknown_tiers, "doit scan"))

    def supply_chain(self) -> Task:
        """verify-supply-chain: what stands behind a published image."""
        return supply_chain_task(self._act)

    def lock(self) -> Task:
        """lock: pin what the tiers are built from."""
        return {
            "actions": [self._lock_pins],
            "doc": "pin outside images and git refs in pipeline.lock.yaml (--check: is it up to date?)",
            "params": [
                switch("check", "write nothing; fail if stale"),
                switch("keep", "only pin what is not pinned, and leave all other pins as they are"),
            ],
            "meta": {"quiet": True},
        }

    def status(self) -> Task:
        """status: what is here."""
        return status_task(self._act, self._plans)

    def report(self) -> Task:
        """report: what the builds so far were like."""
        return report_task(self._act)

    def seeing(self) -> Iterator[Task]:
        """metrics, tui: what there is, for other programs and on a screen."""
        return seeing_tasks(self._act, self._whole)

    def infrastructure(self) -> Iterator[Task]:
        """setup, teardown: what the pipeline needs outside."""
        return setup_tasks(self._act)

    def watch(self) -> Task:
        """watch: build what is saved."""
        return watch_task(self._act, self._unknown_tiers)

    def ccache(self) -> Iterator[Task]:
        """ccache:<verb>: the compiler cache, looked at and kept in order."""
        return ccache_tasks(self._act)

    def trust(self) -> Iterator[Task]:
        """trust:<verb>: keys that sign what trusted builds share."""
        return trust_tasks(self._act)

    def gc(self) -> Iterator[Task]:
        """gc, cache:gc: room on this machine, and housekeeping of everything else in the cache."""
        return gc_tasks(self._act, self._plans)

    def groups(self) -> Iterator[Task]:
        """GROUP: what a doit does for all tiers, for those of a group of pipeline.yaml."""
        for group, tiers in self.plan.pipeline.groups.items():
            shown = ", ".join(tiers) if len(tiers) <= _SHOWN else f"{len(tiers)} tiers"
            verbs = [verb for verb in self._default if ":" not in verb]  # of images; files are only made
            files = [tier for tier in tiers if self.plan.tiers[tier].config.output is not None]
            images = [tier for tier in tiers if tier not in files]
            tasks = [*(f"image:{tier}" for tier in files), *(f"{verb}:{tier}" for verb in verbs for tier in images)]
            yield {
                "basename": group,
                "actions": None,
                "doc": f"{' and '.join(verbs)} of {shown}",
                "uptodate": [self._all_up_to_date(tasks)],
                "task_dep": [task for task in tasks if task.partition(":")[0] in self._verbs],
                "clean": [
                    (self._clean, [what, self.plan.tiers[tier]])
                    for what, cleaned in (("clean_verdicts", images), ("clean_image", tiers))
                    for tier in (cleaned if self._cleans else ())
                ],
                "meta": {"forget": functools.partial(self._forget, tasks)},
            }

    def cloudbuild(self) -> Task:
        """cloudbuild: what Google Cloud Build runs."""
        mode = option("mode", "only the file for these builds: trusted or pr", _mode, default="")
        check = switch("check", "only say whether it is stale")
        return {
            "actions": [self._cloudbuild],
            "doc": "write ci/cloudbuild.yaml and ci/cloudbuild-pr.yaml (--check: are they stale?)",
            "params": [mode, check],
            "meta": {"quiet": True},
        }

    def bake(self) -> Task:
        """bake: the plan as a bake file."""
        return bake_task(self._act, self._whole)

    def summary(self) -> Task:
        """The status table after a run that did something."""
        return {
            "actions": [(self._act, [self._status])],
            "task_dep": [self._default[-1]],
            "uptodate": [lambda: not self._changed],
            "meta": {"quiet": True},
        }

    # ---- actions ----

    def _reason(self, task: str) -> str:
        reason = self.decisions()[task]
        return "" if reason is None else str(reason)

    def _forget(self, tasks: list[str]) -> None:
        for task in tasks:
            mark_forced(self.layout, task)

    def _all_up_to_date(self, tasks: list[str]) -> UpToDate:
        return UpToDate(lambda: next(filter(None, map(self._reason, tasks)), ""), rebuild=False)

    def _group(
        self, verb: str, doc: str, tiers: list[TierPlan], make: Callable[[TierPlan], Task]
    ) -> Iterator[Task | TierTask]:
        """Yield the group of a verb, and its tasks where the command needs them."""
        needed = tiers if verb in self._verbs else []
        up_to_date = self._all_up_to_date([f"{verb}:{tier.name}" for tier in tiers])
        below = [f"{verb}:{tier.name}" for tier in needed]
        yield {"name": None, "doc": doc, "uptodate": [up_to_date], "task_dep": below}
        for tier in needed:
            yield TierTask(verb, tier.name, **make(tier))

    def _compile_task(self, tier: TierPlan) -> Task:
        check, needed = (functools.partial(self._reason, f"{verb}:{tier.name}") for verb in ("compile", "image"))
        within = functools.partial(self._ask_within, f"compile:{tier.name}")
        assert tier.compile is not None  # noqa: S101  only such tiers have the task
        return self._task(tier, "compile", tier.compile.config.made, self._compile, clean="clean_compile") | {
            "uptodate": [UpToDate(check, needed=needed, within=within)],
            "params": COMPILE_PARAMS,
        }

    def _image_task(self, tier: TierPlan) -> Task:
        task = self._task(tier, "image", "image", self._image, clean="clean_image")
        task["meta"]["missing"] = functools.partial(self._build_refusals, tier)
        return task | {"params": [REBUILD, NO_CACHE]}

    def _verify_task(self, tier: TierPlan) -> Task:
        task = self._task(tier, "verify", "verified", self._verify, clean="clean_verdicts", asked=(*_REPORTS, "gpu"))
        return task | {"params": VERIFY_PARAMS}

    def _pull_task(self, tier: TierPlan) -> Task:
        return self._task(tier, "pull", "image", self._pull)

    def _push_task(self, tier: TierPlan) -> Task:
        task = self._task(tier, "push", "published", self._push)
        task["meta"]["missing"] = functools.partial(self._push_refusals, tier)
        return task

    def _task(
        self,
        tier: TierPlan,
        verb: str,
        noun: str,
        action: Callable[..., Any],
        *,
        clean: str = "",
        asked: tuple[str, ...] = (),
    ) -> Task:
        name = f"{verb}:{tier.name}"
        check = functools.partial(self._reason, name)
        within = functools.partial(self._ask_within, name)
        up_to_date = (
            UpToDate(check, details=functools.partial(self._details, tier), within=within)
            if verb == "image"
            else UpToDate(check, within=within, asked=asked)
        )
        key = tier.compile.key if verb == "compile" and tier.compile is not None else tier.key
        return {
            "doc": f"{noun} {short(key)} of {tier.name}",
            "title": lambda _task: f"{name}  {short(key)}",
            "actions": [(action, [tier])],
            "uptodate": [up_to_date],
            "task_dep": list(run_after(self.plan, name)),
            "setup": list(run_before(self.plan, name)),
            "params": [REBUILD],
            "io": {"capture": False},
            "clean": [(self._clean, [clean, tier])] if clean and self._cleans else [],
            "meta": {
                "forget": functools.partial(mark_forced, self.layout, name),
                "up_to_date": up_to_date,
                "notes": functools.partial(self._notes, tier),
            },
        }

    def _notes(self, tier: TierPlan) -> list[str]:
        """Say how GPUs run what the tier compiles, for `doit info`."""
        from imagetiers.planning.gpus import compiled_for
        from imagetiers.report.gpus import gpu_line

        return [gpu_line(each) for each in compiled_for(self.plan) if tier.name in each.tiers]

    def _build_refusals(self, tier: TierPlan) -> tuple[Problem, ...]:
        from imagetiers.operations.preconditions import build_refusals

        return build_refusals(self.session, tier)

    def _push_refusals(self, tier: TierPlan) -> tuple[Problem, ...]:
        from imagetiers.operations.preconditions import push_refusals

        return push_refusals(self.session, tier)

    def _act(self, work: Callable[[Session], None]) -> TaskFailed | None:
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

    def _whole(self) -> Session:
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

    def _make(self, task: str, work: Callable[[Session, TierPlan], None]) -> TaskFailed | None:
        def all_of_it(_: Session) -> None:
            self._changed = True
            session = self._whole()
            work(session, session.plan.tiers[task.partition(":")[2]])
            clear_forced(self.layout, task)

        # With --continue, doit goes on to a task although what it needs has failed: an image that has not passed its checks
        # would be published.
        failed = [needed for needed in run_before(self.plan, task) if needed in self._failed]
        if failed:
            result: TaskFailed | None = TaskFailed(str(Problem(task, f"was not done, since {failed[0]} failed")))
        else:
            result = self._act(all_of_it)
        if result is not None:
            self._failed.add(task)
        return result

    def _ask_within(self, task: str, timeout: float | None, ask: Callable[[], str]) -> str:
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

    def _deadline(self, task: str, timeout: float | None) -> Deadline:
        from imagetiers.building.deadline import COMPILE_HINT, UNCACHED_HINT, Deadline

        step = self.plan.tiers[task.partition(":")[2]].compile
        uncached = step is not None and step.config.ccache is None
        return Deadline(timeout, hint=UNCACHED_HINT if uncached else COMPILE_HINT)

    def _compile(
        self,
        tier: TierPlan,
        rebuild: bool,  # noqa: FBT001  doit passes options so
        no_cache: bool,  # noqa: FBT001
        timeout: int | None,
    ) -> TaskFailed | None:
        from imagetiers.operations.compile import compile_wheels

        task = f"compile:{tier.name}"
        deadline = self._deadlines.pop(task, None) or self._deadline(task, timeout)

        def work(session: Session, tier: TierPlan) -> None:
            deadline.check(task)
            force = rebuild or self._forgotten(task)
            compile_wheels(session, tier, deadline, force=force, no_cache=no_cache)

        return self._make(task, work)

    def _image(self, tier: TierPlan, rebuild: bool, no_cache: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.image import ensure_image
        from imagetiers.operations.output import ensure_output

        task = f"image:{tier.name}"
        force = rebuild or no_cache or self._forgotten(task)
        ensure = ensure_image if tier.config.output is None else ensure_output
        return self._make(task, lambda session, tier: ensure(session, tier, force=force))

    def _verify(  # noqa: PLR0917  doit passes options so
        self,
        tier: TierPlan,
        rebuild: bool,  # noqa: FBT001
        timeout: int | None,
        gpu: str,
        junit: str,
        json: str,
    ) -> TaskFailed | None:
        from imagetiers.operations.verify import verify_image
        from imagetiers.operations.vertex import verify_on_vertex

        if gpu == "vertex":
            return self._act(lambda _: verify_on_vertex(self._whole(), self._whole().plan.tiers[tier.name]))
        task = f"verify:{tier.name}"
        given = {"junit": junit, "json": json}
        reports = {name: where_called(to) for name, to in given.items() if to}

        def work(session: Session, tier: TierPlan) -> None:
            force = rebuild or self._forgotten(task)
            verify_image(session, tier, force=force, limit=timeout, gpus=gpu != "none", reports=reports)

        return self._make(task, work)

    def _size(self, tiers: list[str]) -> TaskFailed | None:
        from imagetiers.operations.size import show_size

        def show(session: Session) -> None:
            for name in tiers or session.plan.images:
                show_size(session, session.plan.tiers[name])

        return self._act(show)

    def _pull(self, tier: TierPlan, rebuild: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.pull import pull_image

        task = f"pull:{tier.name}"
        force = rebuild or self._forgotten(task)
        return self._make(task, lambda session, tier: pull_image(session, tier, force=force))

    def _push(self, tier: TierPlan, rebuild: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.push import push_image

        # Forgotten it only looks once more: what overwrites a tag that holds something else is asked for in so many letters.
        return self._make(f"push:{tier.name}", lambda session, tier: push_image(session, tier, force=rebuild))

    def _unknown_tiers(self, command: str, _: Mapping[str, Any], names: list[str]) -> list[Problem]:
        return [
            Problem(command, f"there is no tier '{name}'", did_you_mean(name, self.plan.tiers, "tiers"))
            for name in dict.fromkeys(names)
            if name not in self.plan.tiers and name not in {_AS_JSON, _OBJECTS}
        ]

    def _forgotten(self, task: str) -> bool:
        # Not asked of the decision: a task with a time limit does not wait for it any more.
        return task in forced_tasks(self.layout)

    def _explain(self, json: bool, objects: bool, tiers: list[str]) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.explain import show_explanations
        from imagetiers.operations.explain_objects import explain_objects

        names = [name for name in tiers if name not in {_AS_JSON, _OBJECTS}]
        as_json = json or _AS_JSON in tiers
        if objects or _OBJECTS in tiers:
            return self._act(lambda _: explain_objects(self._whole(), names, as_json=as_json))
        return self._act(lambda _: show_explanations(self._whole(), names, as_json=as_json))

    def _details(self, tier: TierPlan, reason: str) -> str:
        """Say more than the reason, for `doit info image:TIER`; asked for when it is shown, never in a build."""
        from imagetiers.operations.explain import explanations
        from imagetiers.report.explanation import explanation_text

        try:
            told = explanations(self._whole(), [tier.name])
        except ImagetiersError:
            return reason
        return reason + "\n" + explanation_text(told, self.session.services.now()) if told[0].origins else reason

    def _lock_pins(self, check: bool, keep: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.lock import lock_pins

        return self._act(lambda session: lock_pins(session, self.variants, check=check, keep=keep))

    def _clean(self, verb: str, tier: TierPlan, dryrun: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations import clean

        if verb == "clean_image":
            return self._act(lambda session: clean.clean_image(session, tier, dry_run=dryrun))
        if verb == "clean_compile":
            return self._act(lambda session: clean.clean_compile(session, tier, dry_run=dryrun))
        return self._act(lambda session: clean.clean_verdicts(session, tier, dry_run=dryrun))

    @staticmethod
    def _status(session: Session) -> None:
        from imagetiers.operations.status import show_status

        show_status(session, ask=False)

    def _cloudbuild(self, mode: str, check: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.cloudbuild import write_cloudbuild

        return self._act(lambda session: write_cloudbuild(session, mode=mode, check=check))

    def _plans(self) -> list[Plan]:
        """Plan the pipeline in all its variants. Raises PipelineError."""
        plans = []
        for variant in (None, *self.variants):
            opened = self._opened if variant == self._variant else open_plan(self.layout, variant, self._given)
            opened.keep()
            plans.append(opened.plan)
        return plans
