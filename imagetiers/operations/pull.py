"""An image that is in the registry and needed here: pulled by digest, under its reference by key."""

from __future__ import annotations

from imagetiers.config.layout import Layout
from imagetiers.errors import EngineError, Problem
from imagetiers.planning.observed import ImageInfo, ObservedState
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.services import Services
from imagetiers.state.observe import observe

__all__ = ["fetch", "pull_image"]


def fetch(tier: TierPlan, digest: str, services: Services) -> ImageInfo:
    """Pull the image of that digest and let the reference by key point to it. Raises RegistryError, EngineError."""
    ref = f"{tier.repository}@{digest}"
    began = services.now()
    with (
        services.locks.hold(f"pull-{tier.key}", f"pull:{tier.name}"),
        services.console.progress(f"pull:{tier.name}") as bar,
    ):
        layers: dict[str, bool] = {}

        def take(line: str) -> None:
            layer, _, status = line.partition(" ")
            layers[layer] = layers.get(layer, False) or status.startswith(("Pull complete", "Already exists"))
            bar.update(sum(layers.values()), len(layers), status)

        services.engine.pull(ref, take)
        services.engine.tag(ref, (tier.ref,))
    images = {ref: image for image in services.engine.images() for ref in image.refs}
    image = ObservedState(images, trust=services.trust).image(tier)
    if image is None:
        raise EngineError(Problem(ref, f"was pulled, but is not the image of {tier.ref}", "doit explain says more"))
    services.console.line(f"pull:{tier.name}: {digest[:19]} pulled in {services.now() - began:.0f} s")
    return image


def pull_image(plan: Plan, tier: TierPlan, layout: Layout, services: Services, *, again: bool = False) -> None:
    """Bring the image here, with its friendly tags, when the registry holds it.

    With `again` the registry's image takes the place of one of this key that is here. Raises RegistryError, EngineError.
    """
    seen = observe(plan, layout, services)
    if again or seen.image(tier) is None:
        published = seen.published(tier)
        if published is None:
            found = seen.registered.get(tier.name)
            what = found.unknown if found is not None else ""
            raise EngineError(
                Problem(f"pull:{tier.name}", what or "it is not in the registry", f"doit image:{tier.name}")
            )
        fetch(tier, published.digest, services)
    services.engine.tag(tier.ref, tier.tags)
