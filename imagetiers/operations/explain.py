"""explain: gather what was built before from this machine, the cache and the registry, and say why a tier would be built."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from imagetiers.documents import parse_object
from imagetiers.errors import PipelineError, Problem, StoreError
from imagetiers.parallel import map_parallel
from imagetiers.planning.explain import Candidate, Explanation, Sources, explain
from imagetiers.planning.keys import SHORT, read_key_document
from imagetiers.planning.observed import ImageInfo, ObservedState, Present
from imagetiers.planning.plan import TierPlan
from imagetiers.report.explanation import explanation_text
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.state.observe import observe
from imagetiers.state.records import inputs_name
from imagetiers.suggestions import did_you_mean
from imagetiers.visible import visible_json

__all__ = ["explanations", "show_explanations"]

_RECORDS = 30
_TAGS = 16
_THREADS = 16
_LATEST = 1e11  # Unix seconds: what is later is no time


def show_explanations(session: Session, names: Iterable[str], *, as_json: bool) -> None:
    """Print why the named tiers (all, if none is named) would be built."""
    chosen = list(dict.fromkeys(names)) or list(session.plan.tiers)
    unknown = [name for name in chosen if name not in session.plan.tiers]
    PipelineError.raise_if(
        Problem("doit explain", f"there is no tier '{name}'", did_you_mean(name, session.plan.tiers, "tiers"))
        for name in unknown
    )
    told = explanations(session, chosen)
    if as_json:
        document = {"version": 1, "tiers": [explanation.document() for explanation in told]}
        sys.stdout.write(visible_json(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)) + "\n")
    else:
        session.services.console.line(explanation_text(told, session.services.now()))


def explanations(session: Session, names: Iterable[str]) -> list[Explanation]:
    """Explain the tiers of those names."""
    seen = observe(session)
    prefixes = tuple(dict.fromkeys(("", session.trust.prefix)))
    local = {image.key: image for image in seen.images.values()}

    @cache
    def document_of(key: str) -> Mapping[str, Any] | None:
        document: Mapping[str, Any] | None
        for prefix in prefixes:
            document = _read(session.services, f"{prefix}keys/{key}.json", lambda data: read_key_document(data, key))
            if document is not None:
                return document
        image = local.get(key)
        return read_key_document(image.key_document, key) if image is not None else None

    def texts(key: str) -> Mapping[str, str]:
        found = (_read(session.services, prefix + inputs_name(key), parse_object) for prefix in prefixes)
        return next(({name: text for name, text in one.items() if isinstance(text, str)} for one in found if one), {})

    def path(tier: TierPlan, name: str) -> str:
        if name.startswith("//"):
            return name.removeprefix("//")
        below = f"{tier.config.folder_path}/{name}"
        return name if not (session.layout.root / below).exists() and (session.layout.root / name).exists() else below

    sources = Sources(document_of, texts, path)
    tiers = [session.plan.tiers[name] for name in names]
    return [
        explain(session.plan, tier, seen, lambda tier=tier: _candidates(session, tier, seen, document_of), sources)  # type: ignore[misc]
        for tier in tiers
    ]


def _candidates(
    session: Session, tier: TierPlan, seen: ObservedState, document_of: Callable[[str], Mapping[str, Any] | None]
) -> list[Candidate]:
    """Return what is known to have been built of the tier, each key once."""
    found: dict[str, Candidate] = {}
    recorded = dict(_recorded(session, tier))
    for image in seen.images.values():
        if (image.pipeline, image.tier) == (session.plan.pipeline.name, tier.name):
            document = document_of(image.key) or read_key_document(image.key_document, image.key)
            if document is not None:
                found.setdefault(
                    image.key, Candidate(image.key, document, "this machine", recorded.get(image.key, image.created))
                )
    for key, created in recorded.items():
        if key not in found and (document := document_of(key)) is not None:
            found[key] = Candidate(key, document, "the cache", created)
    if session.plan.pipeline.registry is not None:
        for image in _in_registry(tier, {key[:SHORT] for key in found}, session.services):
            document = document_of(image.key) or read_key_document(image.key_document, image.key)
            if document is not None:
                found.setdefault(image.key, Candidate(image.key, document, "the registry", image.created))
    return list(found.values())


def _recorded(session: Session, tier: TierPlan) -> Iterator[tuple[str, int]]:
    """Yield the keys of the newest builds that the cache has records of."""
    for prefix in dict.fromkeys(("", session.trust.prefix)):
        try:
            names = [blob.name for blob in session.services.store.list(f"{prefix}records/{tier.name}/image/")]
        except StoreError as error:
            session.services.console.line(f"explain: the cache does not say what was built: {error}")
            return
        for document in map_parallel(
            lambda name: _read(session.services, name, parse_object), names[-_RECORDS:], _THREADS
        ):
            key, began = (document or {}).get("key"), (document or {}).get("began", 0)
            if isinstance(key, str) and isinstance(began, int | float) and 0 <= began < _LATEST:
                yield key, int(began)


def _in_registry(tier: TierPlan, known: set[str], services: Services) -> list[ImageInfo]:
    """Return labels of published keys that nobody else knows of."""
    tags = services.registry.tags(tier.repository)
    if not isinstance(tags, tuple):
        services.console.line(f"explain: the registry does not say what it holds: {tags.reason}")
        return []
    shaped = [tag for tag in tags if re.fullmatch(rf"[0-9a-f]{{{SHORT}}}", tag) and tag not in known][-_TAGS:]
    answers = services.registry.look_up(f"{tier.repository}:{tag}" for tag in shaped)
    infos = services.registry.describe({ref: answer for ref, answer in answers.items() if isinstance(answer, Present)})
    return [info for info in infos.values() if isinstance(info, ImageInfo) and info.key and info.tier == tier.name]


def _read(
    services: Services, name: str, parse: Callable[[bytes], Mapping[str, Any] | None]
) -> Mapping[str, Any] | None:
    try:
        return parse(services.store.read(name)[0])
    except StoreError:
        return None
