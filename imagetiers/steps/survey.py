"""What is there already: one request to the engine and a look into two folders, for all tiers at once."""

from __future__ import annotations

import os
from pathlib import Path

from imagetiers.errors import EngineError
from imagetiers.layout import Layout
from imagetiers.plan import Plan, Seen
from imagetiers.ports import Engine
from imagetiers.steps import wheels

__all__ = ["clear_wish", "drop_verdicts", "keep_verdict", "survey", "wish"]


def survey(plan: Plan, layout: Layout, engine: Engine) -> Seen:
    """Look for images, wheels and verdicts. An engine that does not answer makes every tier `unknown`, never absent."""
    keys = [tier.compile.key for tier in plan.tiers.values() if tier.compile is not None]
    have = frozenset(key for key in keys if wheels.have(layout, key))
    forced = frozenset(_listed(layout.state / "forgotten"))
    try:
        images = {ref: image for image in engine.images() for ref in image.refs}
    except EngineError as error:
        return Seen(wheels=have, forced=forced, unknown=str(error))
    verdicts = frozenset(
        (f"sha256:{image}", check)
        for name in _listed(layout.state / "verdicts")
        for image, _, check in [name.partition(".")]
    )
    return Seen(images, have, verdicts, forced)


def keep_verdict(layout: Layout, image: str, check: str) -> None:
    """Remember on this machine that an image (its id) has passed a check (its hash)."""
    _touch(layout.state / "verdicts", f"{image.removeprefix('sha256:')}.{check}")


def drop_verdicts(layout: Layout, image: str) -> None:
    """Forget every verdict on an image."""
    folder = layout.state / "verdicts"
    for name in _listed(folder):
        if name.startswith(image.removeprefix("sha256:") + "."):
            (folder / name).unlink(missing_ok=True)


def wish(layout: Layout, task: str) -> None:
    """Note that a task shall run although it need not (`doit forget`)."""
    _touch(layout.state / "forgotten", task)


def clear_wish(layout: Layout, task: str) -> None:
    """The wish was fulfilled."""
    (layout.state / "forgotten" / task).unlink(missing_ok=True)


def _touch(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
