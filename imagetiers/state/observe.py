"""What is there already: one request to the engine, a look into two folders, and one batch to the registry if there is one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.errors import EngineError
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.state.wheels_whole import what_is_wrong

__all__ = ["clear_forced", "drop_verdicts", "forced_tasks", "keep_verdict", "mark_forced", "observe"]


def observe(session: Session) -> ObservedState:
    """Look for images, wheels and verdicts. Who does not answer makes its tiers `unknown`, never absent.

    What the registry holds is asked only of a pipeline that has one.
    """
    keys = [tier.compile.key for tier in session.plan.tiers.values() if tier.compile is not None]
    making = [tier for tier in session.plan.tiers.values() if tier.config.output is not None]
    notes: list[OSError] = []
    damaged: list[str] = []
    have = frozenset(key for key in keys if _have_wheels(session.layout, key, notes, damaged))
    forced = forced_tasks(session.layout, notes)
    unknown = None
    try:
        images = {ref: image for image in session.services.engine.images() for ref in image.refs}
    except EngineError as error:
        images, unknown = {}, str(error)
    verdicts = frozenset(
        (f"sha256:{image}", check)
        for name in _listed(session.layout.state / "verdicts", notes)
        for image, _, check in [name.partition(".")]
    )
    made = {tier.name: _made(session.layout, tier, notes) for tier in making}
    seen = ObservedState(
        images,
        have,
        verdicts,
        forced,
        unknown,
        trust=session.trust,
        made=made,
        notes=(*_left_out(notes), *damaged),
    )
    if session.plan.pipeline.registry is None:
        return seen
    from imagetiers.state.registry import passed, registered

    seen = replace(seen, registered=registered(session, seen))
    new = passed(session, seen)
    try:
        for image, check in new:
            keep_verdict(session.layout, image, check)
    except OSError as error:
        note = f"{error.filename}: {error.strerror}: what the cache knows of checks is not kept here"
        seen = replace(seen, notes=(*seen.notes, note))
    return replace(seen, verdicts=verdicts | new)


def keep_verdict(layout: Layout, image: str, check: str) -> None:
    """Remember on this machine that an image (its id) has passed a check (its hash)."""
    _touch(layout.state / "verdicts", f"{image.removeprefix('sha256:')}.{check}")


def drop_verdicts(layout: Layout, image: str) -> None:
    """Forget every verdict on an image."""
    folder = layout.state / "verdicts"
    for name in _listed(folder, []):
        if name.startswith(image.removeprefix("sha256:") + "."):
            (folder / name).unlink(missing_ok=True)


def mark_forced(layout: Layout, task: str) -> None:
    """Note that a task shall run although it need not (`doit forget`)."""
    _touch(layout.state / "forgotten", task)


def forced_tasks(layout: Layout, notes: list[OSError] | None = None) -> frozenset[str]:
    """Return the tasks that shall run although they need not; what cannot be read is added to `notes`."""
    return frozenset(_listed(layout.state / "forgotten", [] if notes is None else notes))


def clear_forced(layout: Layout, task: str) -> None:
    """The wish was fulfilled."""
    (layout.state / "forgotten" / task).unlink(missing_ok=True)


def _touch(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def _listed(folder: Path, notes: list[OSError]) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        notes.append(error)
        return []


def _have_wheels(layout: Layout, key: str, notes: list[OSError], damaged: list[str]) -> bool:
    try:
        wrong = what_is_wrong(layout, key)
    except OSError as error:
        notes.append(error)
        return False
    if wrong:
        damaged.append(f"{layout.wheels(key)}: {wrong}: the wheels count as absent, the next compile brings them back")
    return wrong is None


def _made(layout: Layout, tier: TierPlan, notes: list[OSError]) -> tuple[str, ...]:
    from imagetiers.state.made_files import lines_of

    try:
        return lines_of(layout, tier)
    except OSError as error:
        notes.append(error)
        return ("what lies where its files go cannot be read",)


def _left_out(errors: list[OSError]) -> tuple[str, ...]:
    """Say in a line for each reason what could not be read on this machine."""
    reasons: dict[str, list[str]] = {}
    for error in errors:
        reasons.setdefault(error.strerror or str(error), []).append(str(error.filename))
    return tuple(f"{os.path.commonpath(names)}: {why}: what it holds is left out" for why, names in reasons.items())
