"""compile, image, verify, pull and push: the tasks of each tier, and those of groups."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import ImagetiersError, Problem
from imagetiers.planning.decide import run_after, run_before
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.state.observe import mark_forced
from imagetiers.tasks.invocation import Invocation
from imagetiers.tasks.options import duration, form, option, string, switch, where_called
from imagetiers.tasks.tier_task import TierTask, TierVerb
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


def _made(tier: TierPlan) -> str:
    assert tier.compile is not None  # noqa: S101  only such tiers have the task
    return tier.compile.config.made


def _a(noun: str) -> Callable[[TierPlan], str]:
    return lambda _tier: noun


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
        verb = self._verb("compile", _made, self._compile, COMPILE_PARAMS, clean="clean_compile")
        return self._group(verb, "compile wheels and other outputs", tiers)

    def image(self) -> Iterator[Task | TierTask]:
        """image:<tier>: images, parents first."""
        params = [REBUILD, NO_CACHE]
        verb = self._verb("image", _a("image"), self._image, params, clean="clean_image", refusals=self._build_refusals)
        return self._group(verb, "build images", list(self._doit.plan.tiers.values()))

    def verify(self) -> Iterator[Task | TierTask]:
        """verify:<tier>: the checks of a tier and its ancestors."""
        verb = self._verb("verify", _a("verified"), self._verify, VERIFY_PARAMS, clean="clean_verdicts")
        return self._group(verb, "verify images", self._images())

    def pull(self) -> Iterator[Task | TierTask]:
        """pull:<tier>: bring images here that the registry holds."""
        verb = self._verb("pull", _a("image"), self._pull)
        return self._group(verb, "pull images that the registry holds", self._images())

    def push(self) -> Iterator[Task | TierTask]:
        """push:<tier>: publish verified images, parents first."""
        verb = self._verb("push", _a("published"), self._push, refusals=self._push_refusals)
        return self._group(verb, "publish verified images, then move the friendly tags", self._images())

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

    def _group(self, verb: TierVerb, doc: str, tiers: list[TierPlan]) -> Iterator[Task | TierTask]:
        """Yield the group of a verb, and its tasks where the command needs them."""
        names = [f"{verb.name}:{tier.name}" for tier in tiers]
        needed = verb.name in self._doit.verbs
        uptodate, below = [self._all_up_to_date(names)], names if needed else []
        yield {"name": None, "doc": doc, "uptodate": uptodate, "task_dep": below}
        plan = self._doit.plan
        for name, tier in zip(names, tiers, strict=True) if needed else ():
            yield TierTask(name, verb, tier, run_after(plan, name), run_before(plan, name))

    def _all_up_to_date(self, tasks: list[str]) -> UpToDate:
        return UpToDate(lambda: next(filter(None, map(self._doit.reason, tasks)), ""), rebuild=False)

    def _verb(
        self,
        name: str,
        noun: Callable[[TierPlan], str],
        action: Callable[..., Any],
        params: Sequence[dict[str, Any]] = (REBUILD,),
        *,
        clean: str = "",
        refusals: Callable[[TierPlan], tuple[Problem, ...]] | None = None,
    ) -> TierVerb:
        cleaned = functools.partial(self._clean, clean) if clean and self._doit.cleans else None
        return TierVerb(
            name,
            noun,
            params,
            action,
            functools.partial(self._up_to_date, name),
            functools.partial(self._meta, name, refusals),
            cleaned,
        )

    def _up_to_date(self, verb: str, tier: TierPlan) -> UpToDate:
        name = f"{verb}:{tier.name}"
        check = functools.partial(self._doit.reason, name)
        within = functools.partial(self._doit.ask_within, name)
        if verb == "compile":
            needed = functools.partial(self._doit.reason, f"image:{tier.name}")
            return UpToDate(check, needed=needed, within=within)
        if verb == "image":
            return UpToDate(check, details=functools.partial(self._details, tier), within=within)
        return UpToDate(check, within=within, asked=(*_REPORTS, "gpu") if verb == "verify" else ())

    def _meta(
        self, verb: str, refusals: Callable[[TierPlan], tuple[Problem, ...]] | None, tier: TierPlan
    ) -> dict[str, Any]:
        """Return what `doit_plugins` asks a task for."""
        return {
            "forget": functools.partial(mark_forced, self._doit.layout, f"{verb}:{tier.name}"),
            "notes": functools.partial(self._notes, tier),
            "missing": functools.partial(refusals, tier) if refusals is not None else None,
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
        from imagetiers.operations.ahead import begin_checks
        from imagetiers.operations.image import ensure_image
        from imagetiers.operations.output import ensure_output

        task = f"image:{tier.name}"
        force = rebuild or no_cache or self._doit.forgotten(task)

        def work(session: Session, tier: TierPlan) -> None:
            if tier.config.output is not None:
                ensure_output(session, tier, force=force)
                return
            built = ensure_image(session, tier, force=force)
            if built is not None and self._doit.builds_before(task, f"verify:{tier.name}"):
                begin_checks(session, tier, built.id)

        return self._doit.make(task, work)

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
            on_gpus, along = gpu != "none", self._doit.done_by("verify")
            verify_image(session, tier, force=force, limit=timeout, gpus=on_gpus, reports=reports, along=along)

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
