"""What must hold before anything is built: somebody has said that it is not there, and what it is made from is pinned."""

from __future__ import annotations

from imagetiers.errors import PipelineError, Problem, RegistryError
from imagetiers.layout import PIPELINE_LOCK
from imagetiers.plan import Plan, Seen, TierPlan, unpinned_bases

__all__ = ["check_may_build"]


def check_may_build(plan: Plan, tier: TierPlan, seen: Seen, task: str, *, rebuild: bool) -> None:
    """Raise RegistryError when the registry did not tell, and PipelineError when a trusted build has unpinned bases.

    Without a registry nothing is asked, and nothing leaves this machine, so tags will do.
    """
    if plan.pipeline.registry is None:
        return
    found = seen.registered.get(tier.name)
    if found is not None and found.unknown and not rebuild:
        hint = f"nothing is built for hours on a guess; doit {task} --rebuild builds it all the same"
        raise RegistryError(
            Problem(task, f"the registry does not tell whether the image is there: {found.unknown}", hint)
        )
    unpinned = unpinned_bases(tier) if seen.trust.trusted else ()
    if unpinned:
        what = (
            f"{', '.join(unpinned)} {'is' if len(unpinned) == 1 else 'are'} not pinned, but what is built is for others"
        )
        raise PipelineError(
            Problem(f"{task}: {PIPELINE_LOCK}", what, "doit lock, then look at the change and commit it")
        )
