"""doit clean: take back from this machine what a task has made. The ccache directory and the cache stay."""

from __future__ import annotations

import shutil

from imagetiers.config.layout import Layout
from imagetiers.errors import EngineError, Problem
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.services import Services
from imagetiers.state import wheels
from imagetiers.state.observe import drop_verdicts, observe

__all__ = ["clean_compile", "clean_image", "clean_verdicts"]


def clean_image(tier: TierPlan, services: Services, *, dry_run: bool) -> None:
    """Remove the image's references; its layers go with the last of them. Raises EngineError."""
    refs = [ref for ref in (*tier.tags, tier.ref) if services.engine.has_image(ref)]
    _say(services, f"image:{tier.name}", [f"the image {ref}" for ref in refs], dry_run=dry_run)
    if not dry_run:
        for ref in refs:
            services.engine.untag(ref)


def clean_compile(tier: TierPlan, layout: Layout, services: Services, *, dry_run: bool) -> None:
    """Remove the wheels and the builder image. Raises EngineError."""
    step = tier.compile
    if step is None:
        return
    folders = [folder for folder in (layout.wheels(step.key), layout.partial_wheels(step.key)) if folder.exists()]
    images = [step.builder] if services.engine.has_image(step.builder) else []
    things = [*(f"the folder {folder}" for folder in folders), *(f"the image {ref}" for ref in images)]
    _say(services, f"compile:{tier.name}", things, dry_run=dry_run)
    if not dry_run:
        wheels.forget(layout, step.key)
        shutil.rmtree(layout.partial_wheels(step.key), ignore_errors=True)
        for ref in images:
            services.engine.untag(ref)


def clean_verdicts(plan: Plan, tier: TierPlan, layout: Layout, services: Services, *, dry_run: bool) -> None:
    """Forget on this machine that the image has passed. Raises EngineError when nobody tells which one it is."""
    seen = observe(plan, layout, services)
    if seen.unknown is not None:
        raise EngineError(Problem("", seen.unknown))
    image = seen.image(tier)
    verdicts = [image] if image is not None and any(id_ == image.id for id_, _ in seen.verdicts) else []
    _say(services, f"verify:{tier.name}", [f"the verdicts on {found.id[:19]}" for found in verdicts], dry_run=dry_run)
    if not dry_run:
        for found in verdicts:
            drop_verdicts(layout, found.id)


def _say(services: Services, task: str, things: list[str], *, dry_run: bool) -> None:
    verb = "would remove" if dry_run else "removing"
    for thing in things:
        services.console.line(f"{task}: {verb} {thing}")
    if not things:
        services.console.line(f"{task}: nothing to remove")
