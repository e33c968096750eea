"""What must hold before anything is built: somebody has said that it is not there, and what it is made from is pinned."""

from __future__ import annotations

from collections.abc import Iterable

from imagetiers.config.layout import PIPELINE_LOCK
from imagetiers.config.model import Trust
from imagetiers.errors import BuildError, PipelineError, Problem, RegistryError
from imagetiers.planning.decide import decide
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import Plan, TierPlan, unpinned

__all__ = ["check_may_build", "images_made_from", "push_problems"]


def push_problems(plan: Plan, trust: Trust) -> tuple[Problem, ...]:
    """Return why nothing of this build can be pushed: known before anything is compiled for it."""
    if plan.pipeline.registry is None:
        return (Problem("push", "the pipeline has no registry", "registry: HOST/PATH in pipeline.yaml"),)
    if not trust.trusted:
        what = "an untrusted build pushes nothing: a trusted one would find it by its key"
        return (Problem("push", what, "leave out trust=untrusted, where that is right"),)
    return ()


def check_may_build(plan: Plan, tier: TierPlan, seen: ObservedState, task: str, *, force: bool) -> None:
    """Raise RegistryError when the registry did not say, and PipelineError when a trusted build is of what is not pinned.

    Without a registry nothing is asked, and nothing leaves this machine, so tags will do.
    """
    if plan.pipeline.registry is None:
        return
    found, image = seen.registered.get(tier.name), decide(plan, seen)[f"image:{tier.name}"]
    # Of an image that is here, or was forgotten, nobody need tell.
    if found is not None and found.unknown and image is not None and image.fails and not force:
        hint = f"nothing is built for hours on a guess; doit {task} --rebuild builds it all the same"
        raise RegistryError(
            Problem(task, f"the registry does not say whether the image is there: {found.unknown}", hint)
        )
    loose = unpinned(tier, plan.pipeline) if seen.trust.trusted else ()
    if loose:
        what = f"{', '.join(loose)} {'is' if len(loose) == 1 else 'are'} not pinned, but what is built is for others"
        raise PipelineError(
            Problem(f"{task}: {PIPELINE_LOCK}", what, "doit lock, then look at the change and commit it")
        )


def images_made_from(
    plan: Plan, tier: TierPlan, names: Iterable[str], seen: ObservedState, task: str
) -> dict[str, str]:
    """Return references of the tiers `names`: by digest when the registry holds the image, else by key, on this machine.

    With --continue doit goes on to a tier although one that it is made from has failed: say so, instead of an error from
    BuildKit. Raises BuildError.
    """
    found: dict[str, str] = {}
    missing: list[Problem] = []
    for name in names:
        earlier = plan.tiers[name]
        published = seen.published(earlier)
        if published is not None:
            found[name] = f"{earlier.repository}@{published.digest}"
        elif seen.image(earlier) is not None:
            found[name] = earlier.ref
        else:
            which = "its parent" if name == tier.config.parent else "the tier"
            missing.append(Problem(task, f"{which} {name} is not built", f"doit image:{name}"))
    BuildError.raise_if(missing)
    return found
