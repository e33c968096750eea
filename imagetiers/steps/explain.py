"""explain: gather what was built before from this machine, the cache and the registry, and say why a tier would be built."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from imagetiers.documents import parse_object
from imagetiers.errors import PipelineError, Problem, StoreError
from imagetiers.explain import Candidate, Explanation, Sources, explain
from imagetiers.keys import SHORT, read_manifest
from imagetiers.layout import Layout
from imagetiers.plan import ImageInfo, Plan, Present, Seen, TierPlan
from imagetiers.ports import World
from imagetiers.report.explanation import explanation_text
from imagetiers.schema import did_you_mean
from imagetiers.steps.records import inputs_name
from imagetiers.steps.survey import survey
from imagetiers.visible import visible_json

__all__ = ["explanations", "show_explanations"]

_RECORDS = 30
_TAGS = 16
_THREADS = 16
_LATEST = 1e11  # Unix seconds: what is later is no time


def show_explanations(plan: Plan, layout: Layout, world: World, names: Iterable[str], *, as_json: bool) -> None:
    """Print why the named tiers (all, if none is named) would be built."""
    chosen = list(dict.fromkeys(names)) or list(plan.tiers)
    unknown = [name for name in chosen if name not in plan.tiers]
    PipelineError.raise_if(
        Problem("doit explain", f"there is no tier '{name}'", did_you_mean(name, plan.tiers, "tiers"))
        for name in unknown
    )
    told = explanations(plan, chosen, layout, world)
    if as_json:
        document = {"version": 1, "tiers": [explanation.document() for explanation in told]}
        sys.stdout.write(visible_json(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)) + "\n")
    else:
        world.console.line(explanation_text(told, world.now()))


def explanations(plan: Plan, names: Iterable[str], layout: Layout, world: World) -> list[Explanation]:
    """Explain the tiers of those names."""
    seen = survey(plan, layout, world)
    prefixes = tuple(dict.fromkeys(("", world.trust.prefix)))
    local = {image.key: image for image in seen.images.values()}

    @cache
    def manifest(key: str) -> Mapping[str, Any] | None:
        document: Mapping[str, Any] | None
        for prefix in prefixes:
            document = _read(world, f"{prefix}keys/{key}.json", lambda data: read_manifest(data, key))
            if document is not None:
                return document
        image = local.get(key)
        return read_manifest(image.manifest, key) if image is not None else None

    def texts(key: str) -> Mapping[str, str]:
        found = (_read(world, prefix + inputs_name(key), parse_object) for prefix in prefixes)
        return next(({name: text for name, text in one.items() if isinstance(text, str)} for one in found if one), {})

    def path(tier: TierPlan, name: str) -> str:
        below = f"images/{tier.name}/{name}"
        return name if not (layout.root / below).exists() and (layout.root / name).exists() else below

    sources = Sources(manifest, texts, path)
    tiers = [plan.tiers[name] for name in names]
    return [
        explain(plan, tier, seen, lambda tier=tier: _candidates(plan, tier, seen, manifest, world), sources)  # type: ignore[misc]
        for tier in tiers
    ]


def _candidates(
    plan: Plan, tier: TierPlan, seen: Seen, manifest: Callable[[str], Mapping[str, Any] | None], world: World
) -> list[Candidate]:
    """Return what is known to have been built of the tier, each key once."""
    found: dict[str, Candidate] = {}
    recorded = dict(_recorded(tier, world))
    for image in seen.images.values():
        if (image.pipeline, image.tier) == (plan.pipeline.name, tier.name):
            document = manifest(image.key) or read_manifest(image.manifest, image.key)
            if document is not None:
                found.setdefault(
                    image.key, Candidate(image.key, document, "this machine", recorded.get(image.key, image.created))
                )
    for key, created in recorded.items():
        if key not in found and (document := manifest(key)) is not None:
            found[key] = Candidate(key, document, "the cache", created)
    if plan.pipeline.registry is not None:
        for image in _in_registry(tier, {key[:SHORT] for key in found}, world):
            document = manifest(image.key) or read_manifest(image.manifest, image.key)
            if document is not None:
                found.setdefault(image.key, Candidate(image.key, document, "the registry", image.created))
    return list(found.values())


def _recorded(tier: TierPlan, world: World) -> Iterator[tuple[str, int]]:
    """Yield the keys of the newest builds that the cache has records of."""
    for prefix in dict.fromkeys(("", world.trust.prefix)):
        try:
            names = [blob.name for blob in world.store.list(f"{prefix}records/{tier.name}/image/")]
        except StoreError as error:
            world.console.line(f"explain: the cache does not tell what was built: {error}")
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            for document in pool.map(lambda name: _read(world, name, parse_object), names[-_RECORDS:]):
                key, began = (document or {}).get("key"), (document or {}).get("began", 0)
                if isinstance(key, str) and isinstance(began, int | float) and 0 <= began < _LATEST:
                    yield key, int(began)


def _in_registry(tier: TierPlan, known: set[str], world: World) -> list[ImageInfo]:
    """Return labels of published keys that nobody else has told of."""
    tags = world.registry.tags(tier.repository)
    if not isinstance(tags, tuple):
        world.console.line(f"explain: the registry does not tell what it holds: {tags.reason}")
        return []
    shaped = [tag for tag in tags if re.fullmatch(rf"[0-9a-f]{{{SHORT}}}", tag) and tag not in known][-_TAGS:]
    answers = world.registry.look_up(f"{tier.repository}:{tag}" for tag in shaped)
    infos = world.registry.describe({ref: answer for ref, answer in answers.items() if isinstance(answer, Present)})
    return [info for info in infos.values() if isinstance(info, ImageInfo) and info.key and info.tier == tier.name]


def _read(world: World, name: str, parse: Callable[[bytes], Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    try:
        return parse(world.store.read(name)[0])
    except StoreError:
        return None
