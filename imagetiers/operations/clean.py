"""doit clean: take back from this machine what a task has made. The ccache directory and the cache stay."""

from __future__ import annotations

import shutil

from imagetiers.errors import EngineError, Problem
from imagetiers.planning.plan import TierPlan
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.state import made_files, wheels
from imagetiers.state.observe import drop_verdicts, observe

__all__ = ["clean_compile", "clean_image", "clean_verdicts"]


def clean_image(session: Session, tier: TierPlan, *, dry_run: bool) -> None:
    """Remove the image's references; its layers go with the last of them. Of a tier that makes files, what it has made.

    Raises EngineError or OSError.
    """
    if tier.config.output is not None:
        there = not made_files.lines_of(session.layout, tier)
        made = [f"what it has made in {tier.config.output.dest}"] if there else []
        _say(session.services, f"image:{tier.name}", made, dry_run=dry_run)
        if made and not dry_run:
            made_files.clean(session.layout, tier)
        return
    refs = [ref for ref in (*tier.tags, tier.ref) if session.services.engine.has_image(ref)]
    _say(session.services, f"image:{tier.name}", [f"the image {ref}" for ref in refs], dry_run=dry_run)
    if not dry_run:
        for ref in refs:
            session.services.engine.untag(ref)


def clean_compile(session: Session, tier: TierPlan, *, dry_run: bool) -> None:
    """Remove the wheels and the builder image. Raises EngineError."""
    step = tier.compile
    if step is None:
        return
    folders = [
        folder
        for folder in (session.layout.wheels(step.key), session.layout.partial_wheels(step.key))
        if folder.exists()
    ]
    images = [step.builder] if session.services.engine.has_image(step.builder) else []
    things = [*(f"the folder {folder}" for folder in folders), *(f"the image {ref}" for ref in images)]
    _say(session.services, f"compile:{tier.name}", things, dry_run=dry_run)
    if not dry_run:
        wheels.forget(session.layout, step.key)
        shutil.rmtree(session.layout.partial_wheels(step.key), ignore_errors=True)
        for ref in images:
            session.services.engine.untag(ref)


def clean_verdicts(session: Session, tier: TierPlan, *, dry_run: bool) -> None:
    """Forget on this machine that the image has passed. Raises EngineError when nobody knows which one it is."""
    seen = observe(session)
    if seen.unknown is not None:
        raise EngineError(Problem("", seen.unknown))
    here = seen.ids(tier) if seen.image(tier) is not None else ()
    verdicts = [image for image in here if any(id_ == image for id_, _ in seen.verdicts)]
    _say(
        session.services,
        f"verify:{tier.name}",
        [f"the verdicts on {image[:19]}" for image in verdicts],
        dry_run=dry_run,
    )
    if not dry_run:
        for image in verdicts:
            drop_verdicts(session.layout, image)


def _say(services: Services, task: str, things: list[str], *, dry_run: bool) -> None:
    verb = "would remove" if dry_run else "removing"
    for thing in things:
        services.console.line(f"{task}: {verb} {thing}")
    if not things:
        services.console.line(f"{task}: nothing to remove")
