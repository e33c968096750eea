"""Whether each task must run, and why: one answer, read by doit's tasks, plan, explain, status, forecasts and gates. Pure.

`decide` says it of every task by itself. What a command then runs is another question, since a task that is needed only
by others runs only with them: `will_run` answers it from the same edges that the tasks are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from imagetiers.config.model import Trust
from imagetiers.planning import keys
from imagetiers.planning.keys import short
from imagetiers.planning.observed import ImageInfo, ObservedState
from imagetiers.planning.plan import Plan, TierPlan

__all__ = [
    "Decisions",
    "Reason",
    "TierDecision",
    "TierState",
    "builds_between",
    "by_tier",
    "decide",
    "default_tasks",
    "forgotten",
    "pushes",
    "run_after",
    "run_before",
    "tier_decisions",
    "will_run",
]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a task must run, in lines.

    `fails`: the task will fail with these words and make nothing, since somebody who should know did not answer, or it is
    not allowed; only a compile may still find finished wheels in the cache.
    `forgotten`: `doit forget` was asked.
    """

    lines: tuple[str, ...]
    fails: bool = False
    forgotten: bool = False

    def __str__(self) -> str:
        return "; ".join(self.lines)


Decisions = Mapping[str, Reason | None]
"""The answer by task, such as `image:arr-base`; None: it is up to date."""

_FORGOTTEN = Reason(("doit forget was asked",), forgotten=True)


def decide(plan: Plan, observed: ObservedState) -> Decisions:
    """Say of every task of every tier whether it must run, and why."""
    here: dict[str, list[ImageInfo]] = {}
    for image in observed.images.values():
        if (image.pipeline, image.variant) == (plan.pipeline.name, plan.pipeline.variant or ""):
            here.setdefault(image.tier, []).append(image)
    return MappingProxyType(
        {
            task: reason
            for tier in plan.tiers.values()
            for task, reason in _tier(plan, tier, observed, here.get(tier.name, [])).items()
        }
    )


def pushes(plan: Plan, trust: Trust) -> bool:
    """Say whether a build of that trust publishes what it makes."""
    return plan.pipeline.registry is not None and trust.trusted


def default_tasks(plan: Plan, trust: Trust) -> tuple[str, ...]:
    """Return the tasks, or groups of them, that a doit without a task's name selects."""
    if not pushes(plan, trust):
        return ("image", "verify")
    return (*(f"image:{tier.name}" for tier in plan.tiers.values() if tier.config.output is not None), "push")


def run_before(plan: Plan, task: str) -> tuple[str, ...]:
    """Return what a task needs once it must run itself, and not otherwise: doit's `setup`."""
    verb, _, name = task.partition(":")
    tier = plan.tiers[name]
    if verb == "compile" and tier.compile is not None:
        return tuple(f"image:{earlier}" for earlier in tier.compile.made_from)
    if verb == "image":
        images = tuple(f"image:{earlier}" for earlier in tier.made_from)
        return (*images, *((f"compile:{name}",) if tier.compile is not None else ()))
    return {"verify": (f"image:{name}",), "push": (f"verify:{name}",)}.get(verb, ())


def run_after(plan: Plan, task: str) -> tuple[str, ...]:
    """Return what a task waits for in any case: doit's `task_dep`.

    What a tier is made from is published first, so that it is built from what everybody has agreed on.
    """
    verb, _, name = task.partition(":")
    return tuple(f"push:{earlier}" for earlier in plan.tiers[name].made_from) if verb == "push" else ()


def forgotten(decisions: Decisions) -> tuple[str, ...]:
    """Return the tasks that run, or would, because `doit forget` was asked."""
    return tuple(task for task, reason in decisions.items() if reason is not None and reason.forgotten)


def builds_between(order: Sequence[str], task: str, later: str) -> bool:
    """Say whether, in this order of tasks, images are built between two of them, and nothing is compiled: that takes all."""
    if task not in order or later not in order:
        return False
    between = {each.partition(":")[0] for each in order[order.index(task) + 1 : order.index(later)]}
    return "image" in between and "compile" not in between


def will_run(plan: Plan, decisions: Decisions, selected: Iterable[str]) -> tuple[str, ...]:
    """Return what doit runs, in order, when it is asked for these tasks or groups of tasks (`image`).

    Tasks that fail are not in it, nor those that need them; what comes before them is.
    """
    order: list[str] = []
    done: dict[str, bool] = {}

    def run(task: str) -> bool:
        if task not in done:
            done[task] = run_one(task)
        return done[task]

    def run_all(tasks: tuple[str, ...]) -> bool:
        outcomes = [run(task) for task in tasks]  # one that fails does not keep doit from the others
        return all(outcomes)

    def run_one(task: str) -> bool:
        reason = decisions[task]
        if not run_all(run_after(plan, task)):
            return False
        if reason is None:
            return True
        if not run_all(run_before(plan, task)) or reason.fails:
            return False
        order.append(task)
        return True

    run_all(tuple(task for name in selected for task in decisions if name in {task, task.partition(":")[0]}))
    return tuple(order)


class TierState(Enum):
    """What is known of a tier's image. UNKNOWN: somebody who should know did not answer; never taken for absent."""

    FOUND_LOCALLY = "found locally"
    FOUND_IN_REGISTRY = "found in registry"
    BUILD = "build"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TierDecision:
    """What a doit without a task's name is going to do for a tier: its state, why (a line each), and the tasks it runs."""

    tier: TierPlan
    state: TierState
    why: tuple[str, ...]
    runs: tuple[str, ...]

    @property
    def builds(self) -> bool:
        """Whether the image will be built."""
        return f"image:{self.tier.name}" in self.runs

    @property
    def idle(self) -> bool:
        """Whether the image is there, and nothing runs."""
        return not self.runs and self.state in {TierState.FOUND_LOCALLY, TierState.FOUND_IN_REGISTRY}

    @property
    def unknown(self) -> bool:
        """Whether nobody can tell if it will be built: of its own image, or of one that it is built from."""
        return self.state is TierState.UNKNOWN or (self.state is TierState.BUILD and not self.builds)


def tier_decisions(plan: Plan, observed: ObservedState, decisions: Decisions) -> tuple[TierDecision, ...]:
    """Return what `decisions`, which were made of these, come to for each tier."""
    runs = by_tier(will_run(plan, decisions, default_tasks(plan, observed.trust)))
    return tuple(
        _tier_decision(plan, tier, observed, decisions, runs.get(tier.name, ())) for tier in plan.tiers.values()
    )


def by_tier(tasks: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return tasks such as `image:arr-base` by their tiers, in order."""
    found: dict[str, list[str]] = {}
    for task in tasks:
        found.setdefault(task.partition(":")[2], []).append(task)
    return {tier: tuple(those) for tier, those in found.items()}


def _tier_decision(
    plan: Plan, tier: TierPlan, observed: ObservedState, decisions: Decisions, runs: tuple[str, ...]
) -> TierDecision:
    image = decisions[f"image:{tier.name}"]
    if image is not None and image.fails:
        return TierDecision(tier, TierState.UNKNOWN, image.lines, runs)
    if image is not None:
        waited = f"one of {', '.join(tier.made_from)}" if tier.contexts.tiers else f"its parent {tier.config.parent}"
        waits = (f"it waits for {waited}, which cannot be had",)
        why = image.lines if f"image:{tier.name}" in runs else image.lines + waits
        return TierDecision(tier, TierState.BUILD, why, runs)
    if tier.config.output is not None:
        return TierDecision(tier, TierState.FOUND_LOCALLY, (f"{tier.config.output.dest} holds what it makes",), runs)
    others: dict[Reason, str] = {}
    for verb in ("verify", "push"):
        reason = decisions[f"{verb}:{tier.name}"]
        refused = reason is not None and reason.fails and verb in default_tasks(plan, observed.trust)
        if reason is not None and (refused or f"{verb}:{tier.name}" in runs):
            others.setdefault(reason, verb)
    why = tuple(f"{verb}: {reason}" for reason, verb in others.items())
    published = observed.published(tier)
    if observed.image(tier) is not None or published is None:
        return TierDecision(tier, TierState.FOUND_LOCALLY, ("the image of this key is here", *why), runs)
    found = published.wrong or f"{published.digest[:19]} is in the registry"
    return TierDecision(tier, TierState.FOUND_IN_REGISTRY, (found, *why), runs)


# ---- the tasks of one tier ----


def _tier(plan: Plan, tier: TierPlan, observed: ObservedState, here: list[ImageInfo]) -> dict[str, Reason | None]:
    name = tier.name
    if tier.config.output is not None:
        return _making(tier, observed)
    image = _image(tier, observed, here)
    verify = image or _verify(tier, observed)
    compile_ = {f"compile:{name}": _compile(tier, observed, image)} if tier.compile is not None else {}
    return compile_ | {
        f"image:{name}": image,
        f"verify:{name}": verify,
        f"push:{name}": _push(plan, tier, observed, verify=verify, image=image),
        f"pull:{name}": _pull(tier, observed),
    }


def _making(tier: TierPlan, observed: ObservedState) -> dict[str, Reason | None]:
    """Say what must run for a tier that makes files: there is nothing to check, to push or to pull."""
    name = tier.name
    lines = observed.made.get(name, ())
    image = _FORGOTTEN if f"image:{name}" in observed.forced else Reason(lines) if lines else None
    compile_ = {f"compile:{name}": _compile(tier, observed, image)} if tier.compile is not None else {}
    return compile_ | {f"image:{name}": image} | {f"{verb}:{name}": None for verb in ("verify", "push", "pull")}


def _compile(tier: TierPlan, observed: ObservedState, image: Reason | None) -> Reason | None:
    """Say why the wheels must be made. For an image of which nobody can tell nothing is compiled for hours."""
    assert tier.compile is not None  # noqa: S101  the caller has looked
    if f"compile:{tier.name}" in observed.forced:
        return _unless_down(_FORGOTTEN, observed)
    if tier.compile.key in observed.wheels:
        return None
    if image is not None and image.fails:
        return image
    what = f"no {tier.compile.config.made} of the compile key {short(tier.compile.key)}"
    return _unless_down(Reason((what,)), observed)


def _image(tier: TierPlan, observed: ObservedState, here: list[ImageInfo]) -> Reason | None:
    registered, published = observed.registered.get(tier.name), observed.published(tier)
    forgotten = f"image:{tier.name}" in observed.forced
    if observed.unknown is not None and (forgotten or published is None):
        return Reason((observed.unknown,), fails=True, forgotten=forgotten)
    if forgotten:
        return _FORGOTTEN
    if observed.image(tier) is not None or published is not None:
        return None
    if registered is not None and registered.unknown:
        return Reason((registered.unknown,), fails=True)
    return Reason(_why_absent(tier, observed, here))


def _verify(tier: TierPlan, observed: ObservedState) -> Reason | None:
    """Say why an image that there is must be checked, or its tags set."""
    image = observed.image(tier)
    if f"verify:{tier.name}" in observed.forced:
        reason = _FORGOTTEN
    elif not observed.verified(tier):
        reason = Reason(("not verified yet",))
    else:
        moved = [tag for tag in tier.tags if image is not None and tag not in image.refs]
        return Reason((f"the tag {moved[0]} points elsewhere",)) if moved else None
    only_there = image is None and observed.published(tier) is not None
    return reason if only_there and not tier.verify.needs_engine else _unless_down(reason, observed)


def _push(  # noqa: PLR0911  one return a case
    plan: Plan, tier: TierPlan, observed: ObservedState, *, image: Reason | None, verify: Reason | None
) -> Reason | None:
    """Say why the tier must be pushed, or its tags moved. What is published has been verified, so that is a reason, too."""
    found = observed.registered.get(tier.name)
    if found is None or not pushes(plan, observed.trust):
        return Reason(("this build pushes nothing",), fails=True)
    if found.unknown or found.blocked:
        return Reason((found.unknown or found.wrong,), fails=True)
    if image is not None:
        return image
    if f"push:{tier.name}" in observed.forced:
        return _FORGOTTEN
    if found.wrong or not found.digest:
        return Reason((found.wrong or "not in the registry yet",))
    here = observed.image(tier)
    if here is not None and not set(here.ids) & set(found.ids):
        return Reason((f"the registry holds another image of this key ({found.digest[:19]}), which is adopted",))
    if verify is not None:
        return verify
    if found.bare:
        return Reason((found.bare,))
    moved = [tag for tag in tier.tags if tag not in found.tags]
    return Reason((f"the registry's tag {moved[0]} points elsewhere",)) if moved else None


def _pull(tier: TierPlan, observed: ObservedState) -> Reason | None:
    forgotten = f"pull:{tier.name}" in observed.forced
    if observed.image(tier) is not None and not forgotten:
        return None
    if observed.published(tier) is None:
        registered = observed.registered.get(tier.name)
        what = registered.unknown if registered is not None else ""
        return Reason((what or "it is not in the registry",), fails=True, forgotten=forgotten)
    return _unless_down(_FORGOTTEN if forgotten else Reason(("it is not here",)), observed)


def _unless_down(reason: Reason, observed: ObservedState) -> Reason:
    """Return the reason of a task that needs the engine; that it does not answer is another one."""
    return reason if observed.unknown is None else replace(reason, lines=(observed.unknown,), fails=True)


def _why_absent(tier: TierPlan, observed: ObservedState, here: list[ImageInfo]) -> tuple[str, ...]:
    """Say why there is no image of this key: compare with the newest image of the same tier and variant that is `here`."""
    registered = observed.registered.get(tier.name)
    if registered is not None and registered.wrong:
        return (registered.wrong,)
    if not here:
        return ("never built here" + ("" if registered is None else ", and not in the registry"),)
    newest = max(here, key=lambda image: (image.key == tier.key, image.created))
    if newest.key == tier.key:
        if not newest.usable(observed.trust):
            return (f"{tier.ref} was built by {newest.trust}",)
        return (f"the tag {tier.ref} was removed or moved",)
    before = keys.read_key_document(newest.key_document, newest.key)
    changes = () if before is None else keys.diff(before, tier.key_document.content())
    return tuple(str(change) for change in changes) or ("inputs changed",)
