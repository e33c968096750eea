"""What a save means for tiers that are watched: which of them another build would make anew, and by which inputs. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.planning.plan import Plan, TierPlan

__all__ = ["changed_inputs", "keys_of", "with_ancestors"]


def with_ancestors(plan: Plan, names: Iterable[str]) -> tuple[str, ...]:
    """Return the tiers of these names and all that they are made from, parents first."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            tier = plan.tiers[name]
            waiting += [*tier.made_from, *(tier.compile.made_from if tier.compile is not None else ())]
    return tuple(name for name in plan.tiers if name in wanted)


def keys_of(plan: Plan, names: Iterable[str]) -> Mapping[str, tuple[str, str]]:
    """Return what decides whether there is something to build: the keys of tiers, and of their compiles ('' of none)."""
    tiers = [plan.tiers[name] for name in with_ancestors(plan, names)]
    return {tier.name: (tier.key, tier.compile.key if tier.compile is not None else "") for tier in tiers}


def changed_inputs(before: Plan, after: Plan, names: Iterable[str], root: Path) -> tuple[str, ...]:
    """Return the files, by their path in the repository, by which the keys of these tiers are others than before.

    What is in no file of a tier is in pipeline.yaml, or in what it names: pins, GPUs, the day of a refresh.
    """
    found: dict[str, None] = {}
    old_keys, new_keys = keys_of(before, names), keys_of(after, names)
    for name, keys in new_keys.items():
        if old_keys.get(name) == keys:
            continue
        old, new = (dict(_contents(plan.tiers.get(name), root)) for plan in (before, after))
        found |= dict.fromkeys(path for path in sorted({*old, *new}) if old.get(path) != new.get(path))
    changed = old_keys != new_keys
    return tuple(found) or ((PIPELINE_FILE,) if changed else ())


def _contents(tier: TierPlan | None, root: Path) -> Iterator[tuple[str, object]]:
    """Yield the files that a tier's image and wheels are made of, with what their contents are known by."""
    if tier is None:
        return
    step = tier.compile
    yield tier.config.dockerfile_path, (tier.dockerfile, step.dockerfile if step is not None else b"")
    for file in (*tier.files, *(step.files if step is not None else ())):
        path = os.path.relpath(file.source, root) if file.source else f"{tier.config.folder_path}/{file.path}"
        yield path, (file.sha256, file.executable, file.link)
