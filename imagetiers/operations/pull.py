"""An image that is in the registry and needed here: pulled by digest, under its reference by key."""

from __future__ import annotations

from imagetiers.errors import EngineError, Problem
from imagetiers.planning.observed import ImageInfo, ObservedState
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.state.observe import observe

__all__ = ["fetch", "pull_image"]


def fetch(session: Session, tier: TierPlan, digest: str) -> ImageInfo:
    """Pull the image of that digest and let the reference by key point to it. Raises RegistryError, EngineError."""
    ref = f"{tier.repository}@{digest}"
    began = session.services.now()
    with (
        session.services.locks.hold(f"pull-{tier.key}", f"pull:{tier.name}"),
        session.services.console.progress(f"pull:{tier.name}") as bar,
    ):
        layers: dict[str, bool] = {}

        def take(line: str) -> None:
            layer, _, status = line.partition(" ")
            layers[layer] = layers.get(layer, False) or status.startswith(("Pull complete", "Already exists"))
            bar.update(sum(layers.values()), len(layers), status)

        session.services.engine.pull(ref, take)
        session.services.engine.tag(ref, (tier.ref,))
    images = {ref: image for image in session.services.engine.images() for ref in image.refs}
    image = ObservedState(images, trust=session.trust).image(tier)
    if image is None:
        raise EngineError(Problem(ref, f"was pulled, but is not the image of {tier.ref}", "doit explain says more"))
    session.services.console.line(f"pull:{tier.name}: {digest[:19]} pulled in {session.services.now() - began:.0f} s")
    return image


def pull_image(session: Session, tier: TierPlan, *, force: bool = False) -> None:
    """Bring the image here, with its friendly tags, when the registry holds it.

    With `force` the registry's image takes the place of one of this key that is here. Raises RegistryError, EngineError.
    """
    seen = observe(session)
    if force or seen.image(tier) is None:
        published = seen.published(tier)
        if published is None:
            found = seen.registered.get(tier.name)
            what = found.unknown if found is not None else ""
            raise EngineError(
                Problem(f"pull:{tier.name}", what or "it is not in the registry", f"doit image:{tier.name}")
            )
        fetch(session, tier, published.digest)
    session.services.engine.tag(tier.ref, tier.tags)
