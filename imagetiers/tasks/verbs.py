"""compile, image, verify, pull and push: the tasks of each tier, and those of groups."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import ImagetiersError, Problem
from imagetiers.planning.decide import run_after, run_before
from imagetiers.planning.keys import short
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.state.observe import mark_forced
from imagetiers.tasks.invocation import Invocation
from imagetiers.tasks.options import duration, form, option, string, switch, where_called
from imagetiers.tasks.tier_task import TierTask
from imagetiers.tasks.uptodate import UpToDate

__all__ = ["TierVerbs"]

Task = dict[str, Any]


def _where(value: str) -> str:
    """Read on which GPUs checks run. Raises ValueError."""
    where: str = form("auto|none|vertex", "names no GPUs", "write auto, none or vertex")(value)
    return where


_FILE = string("names no file", "a path, or - for the standard output")
REBUILD = switch("rebuild", "do it although it need not be done")
NO_CACHE = switch("no-cache", "do it without the layers that BuildKit has cached, although it need not be done")

_SHOWN = 4  # tiers of a group that its line in doit list names
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


class TierVerbs:
    """The creators of the tasks of tiers."""

    def __init__(self, doit: Invocation) -> None:
        self._doit = doit

    def compile(self) -> Iterator[Task | TierTask]:
        """compile:<tier>: wheels and other outputs."""
        tiers = [tier for tier in self._doit.plan.tiers.values() if tier.compile is not None]
        return self._group("compile", "compile wheels and other outputs", tiers, self._compile_task)

    def image(self) -> Iterator[Task | TierTask]:
        """image:<tier>: images, parents first."""
        return self._group("image", "build images", list(self._doit.plan.tiers.values()), self._image_task)

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

    def groups(self) -> Iterator[Task]:
        """GROUP: what a doit does for all tiers, for those of a group of pipeline.yaml."""
        for group, tiers in self._doit.plan.pipeline.groups.items():
            shown = ", ".join(tiers) if len(tiers) <= _SHOWN else f"{len(tiers)} tiers"
            verbs = [verb for verb in self._doit.default if ":" not in verb]  # of images; files are only made
            files = [tier for tier in tiers if self._doit.plan.tiers[tier].config.output is not None]
            images = [tier for tier in tiers if tier not in files]
            tasks = [*(f"image:{tier}" for tier in files), *(f"{verb}:{tier}" for verb in verbs for tier in images)]
            yield {
                "basename": group,
                "actions": None,
                "doc": f"{' and '.join(verbs)} of {shown}",
                "uptodate": [self._all_up_to_date(tasks)],
                "task_dep": [task for task in tasks if task.partition(":")[0] in self._doit.verbs],
                "clean": [
                    (self._clean, [what, self._doit.plan.tiers[tier]])
                    for what, cleaned in (("clean_verdicts", images), ("clean_image", tiers))
                    for tier in (cleaned if self._doit.cleans else ())
                ],
                "meta": {"forget": functools.partial(self._forget, tasks)},
            }

    def _images(self) -> list[TierPlan]:
        return [self._doit.plan.tiers[name] for name in self._doit.plan.images]

    def _group(
        self, verb: str, doc: str, tiers: list[TierPlan], make: Callable[[TierPlan], Task]
    ) -> Iterator[Task | TierTask]:
        """Yield the group of a verb, and its tasks where the command needs them."""
        needed = tiers if verb in self._doit.verbs else []
        up_to_date = self._all_up_to_date([f"{verb}:{tier.name}" for tier in tiers])
        below = [f"{verb}:{tier.name}" for tier in needed]
        yield {"name": None, "doc": doc, "uptodate": [up_to_date], "task_dep": below}
        for tier in needed:
            yield TierTask(verb, tier.name, **make(tier))

    def _all_up_to_date(self, tasks: list[str]) -> UpToDate:
        return UpToDate(lambda: next(filter(None, map(self._doit.reason, tasks)), ""), rebuild=False)

    def _compile_task(self, tier: TierPlan) -> Task:
        check, needed = (functools.partial(self._doit.reason, f"{verb}:{tier.name}") for verb in ("compile", "image"))
        within = functools.partial(self._doit.ask_within, f"compile:{tier.name}")
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
        check = functools.partial(self._doit.reason, name)
        within = functools.partial(self._doit.ask_within, name)
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
            "task_dep": list(run_after(self._doit.plan, name)),
            "setup": list(run_before(self._doit.plan, name)),
            "params": [REBUILD],
            "io": {"capture": False},
            "clean": [(self._clean, [clean, tier])] if clean and self._doit.cleans else [],
            "meta": {
                "forget": functools.partial(mark_forced, self._doit.layout, name),
                "up_to_date": up_to_date,
                "notes": functools.partial(self._notes, tier),
            },
        }

    def _notes(self, tier: TierPlan) -> list[str]:
        """Say how GPUs run what the tier compiles, for `doit info`."""
        from imagetiers.planning.gpus import compiled_for
        from imagetiers.report.gpus import gpu_line

        return [gpu_line(each) for each in compiled_for(self._doit.plan) if tier.name in each.tiers]

    def _build_refusals(self, tier: TierPlan) -> tuple[Problem, ...]:
        from imagetiers.operations.preconditions import build_refusals

        return build_refusals(self._doit.session, tier)

    def _push_refusals(self, tier: TierPlan) -> tuple[Problem, ...]:
        from imagetiers.operations.preconditions import push_refusals

        return push_refusals(self._doit.session, tier)

    def _details(self, tier: TierPlan, reason: str) -> str:
        """Say more than the reason, for `doit info image:TIER`; asked for when it is shown, never in a build."""
        from imagetiers.operations.explain import explanations
        from imagetiers.report.explanation import explanation_text

        try:
            told = explanations(self._doit.whole(), [tier.name])
        except ImagetiersError:
            return reason
        return reason + "\n" + explanation_text(told, self._doit.session.services.now()) if told[0].origins else reason

    def _forget(self, tasks: list[str]) -> None:
        for task in tasks:
            mark_forced(self._doit.layout, task)

    def _compile(
        self,
        tier: TierPlan,
        rebuild: bool,  # noqa: FBT001  doit passes options so
        no_cache: bool,  # noqa: FBT001
        timeout: int | None,
    ) -> TaskFailed | None:
        from imagetiers.operations.compile import compile_wheels

        task = f"compile:{tier.name}"
        deadline = self._doit.deadline(task, timeout)

        def work(session: Session, tier: TierPlan) -> None:
            deadline.check(task)
            force = rebuild or self._doit.forgotten(task)
            compile_wheels(session, tier, deadline, force=force, no_cache=no_cache)

        return self._doit.make(task, work)

    def _image(self, tier: TierPlan, rebuild: bool, no_cache: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.image import ensure_image
        from imagetiers.operations.output import ensure_output

        task = f"image:{tier.name}"
        force = rebuild or no_cache or self._doit.forgotten(task)
        ensure = ensure_image if tier.config.output is None else ensure_output
        return self._doit.make(task, lambda session, tier: ensure(session, tier, force=force))

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
            return self._doit.act(
                lambda _: verify_on_vertex(self._doit.whole(), self._doit.whole().plan.tiers[tier.name])
            )
        task = f"verify:{tier.name}"
        given = {"junit": junit, "json": json}
        reports = {name: where_called(to) for name, to in given.items() if to}

        def work(session: Session, tier: TierPlan) -> None:
            force = rebuild or self._doit.forgotten(task)
            verify_image(session, tier, force=force, limit=timeout, gpus=gpu != "none", reports=reports)

        return self._doit.make(task, work)

    def _pull(self, tier: TierPlan, rebuild: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.pull import pull_image

        task = f"pull:{tier.name}"
        force = rebuild or self._doit.forgotten(task)
        return self._doit.make(task, lambda session, tier: pull_image(session, tier, force=force))

    def _push(self, tier: TierPlan, rebuild: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.push import push_image

        # Forgotten it only looks once more: what overwrites a tag that holds something else is asked for in so many letters.
        return self._doit.make(f"push:{tier.name}", lambda session, tier: push_image(session, tier, force=rebuild))

    def _clean(self, verb: str, tier: TierPlan, dryrun: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations import clean

        if verb == "clean_image":
            return self._doit.act(lambda session: clean.clean_image(session, tier, dry_run=dryrun))
        if verb == "clean_compile":
            return self._doit.act(lambda session: clean.clean_compile(session, tier, dry_run=dryrun))
        return self._doit.act(lambda session: clean.clean_verdicts(session, tier, dry_run=dryrun))
