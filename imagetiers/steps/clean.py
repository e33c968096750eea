"""doit clean: take back from this machine what a task has made. The ccache directory and the cache stay."""

from __future__ import annotations

import shutil

from imagetiers.layout import Layout
from imagetiers.plan import Plan, TierPlan
from imagetiers.ports import World
from imagetiers.steps import wheels
from imagetiers.steps.survey import drop_verdicts, survey

__all__ = ["clean_compile", "clean_image", "clean_verdicts"]


def clean_image(tier: TierPlan, world: World, *, dry_run: bool) -> None:
    """Remove the image's references; its layers go with the last of them."""
    for ref in (*tier.tags, tier.ref):
        if world.engine.has_image(ref):
            world.console.line(f"image:{tier.name} - removing image '{ref}'")
            if not dry_run:
                world.engine.untag(ref)


def clean_compile(tier: TierPlan, layout: Layout, world: World, *, dry_run: bool) -> None:
    """Remove the wheels and the builder image."""
    step = tier.compile
    if step is None:
        return
    folder = layout.wheels(step.key)
    if folder.exists():
        world.console.line(f"compile:{tier.name} - removing dir '{folder}'")
        if not dry_run:
            wheels.forget(layout, step.key)
            shutil.rmtree(layout.partial_wheels(step.key), ignore_errors=True)
    if world.engine.has_image(step.builder):
        world.console.line(f"compile:{tier.name} - removing image '{step.builder}'")
        if not dry_run:
            world.engine.untag(step.builder)


def clean_verdicts(plan: Plan, tier: TierPlan, layout: Layout, world: World, *, dry_run: bool) -> None:
    """Forget on this machine that the image has passed."""
    image = survey(plan, layout, world).image(tier)
    if image is not None:
        world.console.line(f"verify:{tier.name} - forgetting the verdicts on {image.id[:19]}")
        if not dry_run:
            drop_verdicts(layout, image.id)
