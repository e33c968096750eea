"""image:<tier>: build the image of a key, from the very bytes that were hashed."""

from __future__ import annotations

from imagetiers.commands import build_image
from imagetiers.errors import BuildError, EngineError, Problem
from imagetiers.keys import short
from imagetiers.layout import Layout
from imagetiers.plan import ImageInfo, Plan, Seen, TierPlan
from imagetiers.ports import World
from imagetiers.snapshot import context_tar
from imagetiers.steps import wheels
from imagetiers.steps.buildlog import BuildLog
from imagetiers.steps.forecast import expect_image
from imagetiers.steps.guard import check_may_build
from imagetiers.steps.records import Record, keep, keep_inputs
from imagetiers.steps.secret_files import read_secrets
from imagetiers.steps.survey import survey

__all__ = ["ensure_image"]


def ensure_image(plan: Plan, tier: TierPlan, layout: Layout, world: World, *, rebuild: bool = False) -> None:
    """Make sure that the engine holds the image of the tier's key.

    With `rebuild` it is built although it is there, and without BuildKit's layer cache. Raises BuildError, EngineError or
    Interrupted.
    """
    with world.locks.hold(f"image-{tier.key}", f"image:{tier.name}"):
        seen = survey(plan, layout, world)
        if not rebuild and seen.image(tier) is not None:
            return  # another doit was faster
        if not rebuild and (published := seen.published(tier)) is not None:
            world.console.line(f"image:{tier.name}: {published.digest[:19]} is in the registry")
            return
        check_may_build(plan, tier, seen, f"image:{tier.name}", rebuild=rebuild)
        parent = _parent(plan, tier, seen)
        expected = expect_image(plan, tier, seen, world, afresh=rebuild)
        began = world.now()
        folder = layout.wheels(tier.compile.key) if tier.compile is not None else None
        if tier.compile is not None and not wheels.have(layout, tier.compile.key):
            raise BuildError(Problem(f"image:{tier.name}", "its wheels are not here", f"doit compile:{tier.name}"))
        secrets = read_secrets(tier.tier, layout, world.trust)
        build = build_image(tier, plan.pipeline, folder, world.trust, parent=parent, no_cache=rebuild)
        title = f"image:{tier.name}"
        path = layout.log(tier.name, "image", tier.key)
        with world.console.progress(title) as bar, BuildLog(path, bar, world.now, secrets.values()) as log:
            try:
                world.engine.build(build, context_tar(tier.files, tier.dockerfile), log.take)
            except BuildError as error:
                raise BuildError(log.failure(title, error.problems[0].what)) from error
        built = _image(tier, world)
        if built is None:
            raise EngineError(
                Problem(
                    title,
                    f"was built, but the engine does not hold {tier.ref}",
                    "does `docker buildx ls` show another builder?",
                )
            )
        seconds = world.now() - began
        world.console.line(f"image:{tier.name}: {short(tier.key)} built in {seconds:.0f} s, {built.size / 1e6:,.0f} MB")
        record = Record("image", tier.name, tier.key, began, seconds, image=built.id, size=built.size)
        keep(world, tier.manifest, expected.onto(record))
        keep_inputs(world, tier.key, tier.files)


def _parent(plan: Plan, tier: TierPlan, seen: Seen) -> str | None:
    """Return the parent's reference by digest when the registry holds it; None: the one by key, on this machine.

    With --continue doit goes on to a child whose parent failed: say so, instead of an error from the FROM line.
    """
    if tier.tier.parent is None:
        return None
    parent = plan.tiers[tier.tier.parent]
    published = seen.published(parent)
    if published is not None:
        return f"{parent.repository}@{published.digest}"
    if seen.image(parent) is None:
        raise BuildError(
            Problem(f"image:{tier.name}", f"its parent {parent.name} is not built", f"doit image:{parent.name}")
        )
    return None


def _image(tier: TierPlan, world: World) -> ImageInfo | None:
    images = {ref: image for image in world.engine.images() for ref in image.refs}
    return Seen(images, trust=world.trust).image(tier)
