"""What a tier's image is called beside its key: no two tiers move the same tag."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.model import Pipeline, Tier
from imagetiers.config.schema import place
from imagetiers.config.yamltree import Node
from imagetiers.errors import Problem

__all__ = ["friendly_tags", "image_repository", "name_problems"]


def image_repository(pipeline: Pipeline, tier: Tier, *, friendly: bool = False) -> str:
    """Return where a tier's images are: by key, or by the `friendly` tags. Without a registry it is a name on this machine."""
    registry = (pipeline.channels or pipeline.registry) if friendly else pipeline.registry
    return tier.image or "/".join(part for part in (registry, pipeline.name, tier.name) if part)


def friendly_tags(pipeline: Pipeline, tier: Tier) -> tuple[str, ...]:
    """Return the references that move to a tier's newest image, `tag` first; none where it makes none."""
    if tier.output is not None:
        return ()
    place = image_repository(pipeline, tier, friendly=True)
    return tuple(f"{place}:{tag}" for tag in (tier.tag, *tier.tags))


def name_problems(pipeline: Pipeline, tree: Node) -> Iterator[Problem]:
    """Yield what a schema cannot say: a tag that two tiers would move, or one of them twice."""
    moved: dict[str, str] = {}
    for tier in pipeline.tiers.values():
        tags = friendly_tags(pipeline, tier)
        for number, ref in enumerate(tags):
            other = moved.setdefault(ref, tier.name)
            if other == tier.name and ref not in tags[:number]:
                continue
            given: Any = tree.at(("tiers", tier.name)).plain()
            named = "tag" if "tag" in given else "image"
            listed: tuple[str | int, ...] = ("tags", number - 1) if number else (named,)
            what = "is its tag, too" if other == tier.name else f"would move {ref}, as the tier {other} does"
            hint = "remove it from tags" if other == tier.name else "give one of them another tag"
            yield Problem(place(tree, ("tiers", tier.name, *listed), PIPELINE_FILE), what, hint)
