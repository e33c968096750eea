"""Why each task of a tier has to run: a text, or '' when it is up to date. doit asks, a person reads the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imagetiers.planning.keys import short
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import Plan, TierPlan, push_reason, why_absent

__all__ = ["Reasons"]


@dataclass(frozen=True)
class Reasons:
    """The reasons of one plan. `look` returns what is there at this moment; `pushes`: the build publishes what it makes."""

    plan: Plan
    look: Callable[[], ObservedState]
    pushes: bool

    def wheels(self, tier: TierPlan) -> str:
        """Say why the tier's wheels have to be made; it has a compile step."""
        seen = self.look()
        assert tier.compile is not None  # noqa: S101
        if f"compile:{tier.name}" in seen.forced:
            return "doit forget was asked"
        return "" if tier.compile.key in seen.wheels else f"no wheels of the compile key {short(tier.compile.key)}"

    def image(self, tier: TierPlan) -> str:
        """Say why the tier's image has to be built, or why nobody can tell."""
        seen = self.look()
        registered, published = seen.registered.get(tier.name), seen.published(tier)
        if seen.unknown is not None and published is None:
            return seen.unknown
        if f"image:{tier.name}" in seen.forced:
            return "doit forget was asked"
        if seen.image(tier) is not None or published is not None:
            return ""
        if registered is not None and registered.unknown:
            return registered.unknown
        return "; ".join(why_absent(self.plan, tier, seen))

    def verified(self, tier: TierPlan) -> str:
        """Say why the tier's image has to be checked, and its tags set."""
        seen = self.look()
        reason = self.image(tier)
        if reason:
            return reason
        if f"verify:{tier.name}" in seen.forced:
            return "doit forget was asked"
        if not seen.verified(tier):
            return "these checks have not passed on this image"
        image = seen.image(tier)
        moved = [tag for tag in tier.tags if image is not None and tag not in image.refs]
        return f"the tag {moved[0]} points elsewhere" if moved else ""

    def here(self, tier: TierPlan) -> str:
        """Say why the tier's image has to be pulled."""
        return "" if self.look().image(tier) is not None else "it is not here"

    def published(self, tier: TierPlan) -> str:
        """Say why the tier's image has to be pushed, or its friendly tags moved."""
        if not self.pushes:
            return "this build pushes nothing"
        return self.image(tier) or push_reason(tier, self.look())
