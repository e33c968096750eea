"""image:<tier>: build the image of a key, from the very bytes that were hashed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from imagetiers.building.image_build import run_build
from imagetiers.building.preconditions import check_may_build, images_made_from
from imagetiers.building.secrets import given_secrets, read_secrets
from imagetiers.errors import BuildError, EngineError, Problem, RegistryError
from imagetiers.operations.ahead import end_checks
from imagetiers.operations.signed_parents import parent_signature_problems
from imagetiers.planning.commands import build_image
from imagetiers.planning.keys import short
from imagetiers.planning.observed import ImageInfo, ObservedState
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.state import wheels
from imagetiers.state.history import Expected, expect_image
from imagetiers.state.observe import observe
from imagetiers.state.records import Record, keep, keep_inputs

__all__ = ["build_tier", "ensure_image"]

_KILLED = "exit code: 137"  # what BuildKit says of a command that the kernel has killed


def ensure_image(session: Session, tier: TierPlan, *, force: bool = False) -> ImageInfo | None:
    """Make sure that the engine holds the image of the tier's key; return it where it had to be built.

    With `force` it is built although it is there, and without BuildKit's layer cache. Raises BuildError, EngineError,
    RegistryError or Interrupted.
    """
    with session.services.locks.hold(f"image-{tier.key}", f"image:{tier.name}"):
        seen = observe(session)
        if not force and seen.image(tier) is not None:
            return None  # another doit was faster
        if not force and (published := seen.published(tier)) is not None:
            session.services.console.line(f"image:{tier.name}: {published.digest[:19]} is in the registry")
            return None
        title = f"image:{tier.name}"
        try:
            expected, began = build_tier(session, tier, seen, force=force)
        except BuildError as error:
            if _KILLED not in str(error) or not end_checks(session):
                raise
            session.services.console.line(f"{title}: was killed beside checks, so it is built again, alone")
            expected, began = build_tier(session, tier, seen, force=force)
        built = _image(session, tier)
        if built is None:
            raise EngineError(
                Problem(
                    title,
                    f"was built, but the engine does not hold {tier.ref}",
                    "does `docker buildx ls` show another builder?",
                )
            )
        seconds = session.services.now() - began
        session.services.console.line(
            f"image:{tier.name}: {short(tier.key)} built in {seconds:.0f} s, {built.size / 1e6:,.0f} MB"
        )
        record = Record("image", tier.name, tier.key, began, seconds, image=built.id, size=built.size)
        keep(session, tier.key_document, expected.attach_to(record))
        keep_inputs(session, tier.key, tier.inputs)
        return built


def _folder(session: Session, tier: TierPlan) -> Path | None:
    """Return the folder of the wheels or other outputs that the image takes. Raises BuildError where they are not here."""
    step = tier.compile
    if step is None:
        return None
    if not wheels.have(session.layout, step.key):
        what = f"its {step.config.made} are not here"
        raise BuildError(Problem(f"image:{tier.name}", what, f"doit compile:{tier.name}"))
    return wheels.result(session.layout, step.key, step.config.outputs)


def build_tier(
    session: Session, tier: TierPlan, seen: ObservedState, *, force: bool, archive: Path | None = None
) -> tuple[Expected, float]:
    """Build a tier's image, or with an `archive` the files of it; return what was expected of that, and when it began.

    Raises as `ensure_image` does.
    """
    title = f"image:{tier.name}"
    check_may_build(session.plan, tier, seen, title, force=force)
    RegistryError.raise_if(parent_signature_problems(session, tier))
    images = images_made_from(session.plan, tier, tier.made_from, seen, title)
    expected = expect_image(session, tier, seen, force=force)
    began = session.services.now()
    folder = _folder(session, tier)
    secrets = read_secrets(tier.config, session.layout, session.trust)
    make = partial(
        build_image,
        tier,
        session.plan.pipeline,
        folder,
        session.trust,
        images=images,
        secrets=given_secrets(tier.config, session.layout, session.trust),
        no_cache=force,
        archive=archive,
    )
    path = session.layout.log(tier.name, "image", tier.key)
    run_build(session, tier, title, path, secrets.values(), lambda folders: make(folders=folders))
    return expected, began


def _image(session: Session, tier: TierPlan) -> ImageInfo | None:
    images = {ref: image for image in session.services.engine.images() for ref in image.refs}
    return ObservedState(images, trust=session.trust).image(tier)
