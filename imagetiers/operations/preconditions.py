"""What would refuse a run before anything is done for it: secrets that are not here, images that may not be pushed."""

from __future__ import annotations

from collections.abc import Iterable

from imagetiers.building.preconditions import push_problems
from imagetiers.building.secrets import read_secrets
from imagetiers.errors import PipelineError, Problem
from imagetiers.operations.attest import signing_problems
from imagetiers.operations.dockerfiles import gate_problems
from imagetiers.planning.decide import TierDecision
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session

__all__ = ["build_refusals", "push_refusals", "refusals"]


def build_refusals(session: Session, tier: TierPlan) -> tuple[Problem, ...]:
    """Return what a build of the tier lacks on this machine."""
    try:
        read_secrets(tier.config, session.layout, session.trust)
    except PipelineError as error:
        return error.problems
    return ()


def push_refusals(session: Session, tier: TierPlan) -> tuple[Problem, ...]:
    """Return what keeps the tier's image from being pushed, as far as it is known before it is built."""
    return push_problems(session.plan, session.trust) or (
        *gate_problems(session, tier),
        *signing_problems(session, f"push:{tier.name}"),
    )


def refusals(session: Session, tiers: Iterable[TierDecision]) -> tuple[Problem, ...]:
    """Return, each once, what would refuse the doit that does what was decided."""
    found: dict[Problem, None] = {}
    for decision in tiers:
        if f"image:{decision.tier.name}" in decision.runs:
            found.update(dict.fromkeys(build_refusals(session, decision.tier)))
        if f"push:{decision.tier.name}" in decision.runs:
            found.update(dict.fromkeys(push_refusals(session, decision.tier)))
    return tuple(found)
