"""lock: resolve the tags of outside images, in all variants, and pin them in pipeline.lock.yaml."""

from __future__ import annotations

import os
from collections.abc import Iterable

from imagetiers.config import load_config
from imagetiers.errors import PipelineError, Problem, RegistryError
from imagetiers.layout import PIPELINE_LOCK, Layout
from imagetiers.lockfile import changes, with_pins
from imagetiers.plan import Present, Unknown
from imagetiers.ports import World

__all__ = ["lock_pins"]


def lock_pins(layout: Layout, variants: Iterable[str], world: World, *, check: bool, keep: bool) -> None:
    """Pin what every variant is built from; with `keep` only what has no pin; with `check` only say what is stale.

    All or nothing: one that cannot be resolved leaves the file as it is. Raises RegistryError, and PipelineError when
    `check` finds it stale.
    """
    configs = [load_config(layout, variant) for variant in (None, *variants)]
    before = dict(configs[0].pipeline.pins)
    refs = sorted(
        {
            ref
            for config in configs
            for tier in config.pipeline.tiers.values()
            for ref in tier.bases.values()
            if "@" not in ref
        }
    )
    asked = [ref for ref in refs if not (keep and ref in before)]
    after = {ref: before[ref] for ref in refs if ref in before}
    problems = []
    for ref, answer in world.registry.look_up(asked).items():
        if isinstance(answer, Present):
            after[ref] = answer.digest
        elif isinstance(answer, Unknown):
            problems.append(Problem(ref, f"cannot be resolved: {answer.reason}", f"{PIPELINE_LOCK} stays as it is"))
        else:
            problems.append(Problem(ref, "its registry has no such image", "correct tiers.*.bases in pipeline.yaml"))
    RegistryError.raise_if(problems)
    changed = changes(before, after)
    shown = "\n".join(map(str, changed))
    if not changed:
        world.console.line(f"{PIPELINE_LOCK}: {len(after)} pins are up to date")
    elif check:
        raise PipelineError(
            Problem(PIPELINE_LOCK, f"is stale:\n{shown}", "doit lock, then look at the change and commit it")
        )
    else:
        text = layout.lock.read_text(encoding="utf-8") if layout.lock.exists() else ""
        _write(layout, with_pins(text, after))
        world.console.line(f"{PIPELINE_LOCK}:\n{shown}")


def _write(layout: Layout, text: str) -> None:
    temporary = layout.lock.with_name(f".{layout.lock.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(layout.lock)
    finally:
        temporary.unlink(missing_ok=True)
