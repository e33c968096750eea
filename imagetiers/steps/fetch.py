"""An image that is in the registry and needed here: pulled by digest, under its reference by key."""

from __future__ import annotations

from imagetiers.errors import EngineError, Problem
from imagetiers.layout import Layout
from imagetiers.plan import ImageInfo, Plan, Seen, TierPlan
from imagetiers.ports import World
from imagetiers.steps.survey import survey

__all__ = ["fetch", "pull_image"]


def fetch(tier: TierPlan, digest: str, world: World) -> ImageInfo:
    """Pull the image of that digest and let the reference by key point to it. Raises RegistryError, EngineError."""
    ref = f"{tier.repository}@{digest}"
    began = world.now()
    with world.locks.hold(f"pull-{tier.key}", f"pull:{tier.name}"), world.console.progress(f"pull:{tier.name}") as bar:
        layers: dict[str, bool] = {}

        def take(line: str) -> None:
            layer, _, status = line.partition(" ")
            layers[layer] = layers.get(layer, False) or status.startswith(("Pull complete", "Already exists"))
            bar.update(sum(layers.values()), len(layers), status)

        world.engine.pull(ref, take)
        world.engine.tag(ref, (tier.ref,))
    images = {ref: image for image in world.engine.images() for ref in image.refs}
    image = Seen(images, trust=world.trust).image(tier)
    if image is None:
        raise EngineError(Problem(ref, f"was pulled, but is not the image of {tier.ref}", "doit explain says more"))
    world.console.line(f"pull:{tier.name}: {digest[:19]} pulled in {world.now() - began:.0f} s")
    return image


def pull_image(plan: Plan, tier: TierPlan, layout: Layout, world: World) -> None:
    """Bring the image here, with its friendly tags, when the registry holds it. Raises RegistryError, EngineError."""
    seen = survey(plan, layout, world)
    if seen.image(tier) is None:
        published = seen.published(tier)
        if published is None:
            found = seen.registered.get(tier.name)
            what = found.unknown if found is not None else ""
            raise EngineError(
                Problem(f"pull:{tier.name}", what or "it is not in the registry", f"doit image:{tier.name}")
            )
        fetch(tier, published.digest, world)
    world.engine.tag(tier.ref, tier.tags)
