"""How an image was made, as SLSA's provenance says it (v1), from the key document: nothing in it was not hashed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from imagetiers.documents import is_digest
from imagetiers.planning.attachments import canonical
from imagetiers.planning.keys import KeyDocument
from imagetiers.planning.plan import Plan, TierPlan

__all__ = ["BUILD_TYPE", "MadeFrom", "provenance", "read_provenance"]

BUILD_TYPE = "https://imagetiers.dev/image/v1"


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """What a provenance says, once it has been held against itself: the builder, the key, and what the image is made from.

    `key` is the hash of the key document in it. `materials` are (URI, digest), the digest '' where none is told.
    """

    builder: str
    tier: str
    key: str
    finished: str
    materials: tuple[tuple[str, str], ...]


def provenance(plan: Plan, tier: TierPlan, *, created: int, parent: str | None, version: str) -> dict[str, Any]:
    """Return the predicate for an image that was `created` then (Unix seconds).

    `parent` is the digest of the parent's published image, where the image's layers begin with those of that very image.
    `version` is imagetiers' own.
    """
    settings = plan.pipeline.supply_chain
    step = tier.compile
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "pipeline": plan.pipeline.name,
                "variant": plan.pipeline.variant,
                "tier": tier.name,
                "image": tier.key_document.content(),
                **({"compile": step.key_document.content()} if step is not None else {}),
            },
            "internalParameters": {"key": tier.key, **({"compileKey": step.key} if step is not None else {})},
            "resolvedDependencies": list(_materials(plan, tier, parent)),
        },
        "runDetails": {
            "builder": {"id": settings.builder if settings is not None else "", "version": {"imagetiers": version}},
            "metadata": {"finishedOn": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
        },
    }


def _materials(plan: Plan, tier: TierPlan, parent: str | None) -> Iterator[dict[str, Any]]:
    documents = [tier.key_document, *([tier.compile.key_document] if tier.compile is not None else [])]
    bases = {ref: digest for document in documents for ref, digest in document.bases.items()}
    for ref, digest in sorted(bases.items()):
        yield _material(f"docker://{ref}", "sha256", digest)
    for name in tier.made_from:
        above = plan.tiers[name]
        published = (parent or "") if name == tier.config.parent else ""
        material = _material(f"docker://{above.repository}", "sha256", published)
        yield {**material, "annotations": {"key": above.key}}
    used = {name for document in documents for name in document.args}
    for name, source in tier.config.sources.items():
        if name in used:
            yield _material(f"git+{source.git}@{source.ref}", "gitCommit", plan.pipeline.commit(source) or "")
    for path, digest in sorted(_files(documents).items()):
        yield _material(path, "sha256", digest)


def _files(documents: list[KeyDocument]) -> dict[str, str]:
    return {path: digest for document in documents for path, kind, digest in document.files if kind != "link"}


def _material(uri: str, algorithm: str, digest: str) -> dict[str, Any]:
    value = digest.removeprefix("sha256:")
    whole = algorithm != "sha256" or is_digest(f"sha256:{value}")
    return {"uri": uri, **({"digest": {algorithm: value}} if value and whole else {})}


def read_provenance(predicate: Mapping[str, Any]) -> MadeFrom | None:
    """Return what a predicate says; None where it is none of ours, or its key is not the hash of its key document."""
    try:
        definition, details = predicate["buildDefinition"], predicate["runDetails"]
        outer, key = definition["externalParameters"], definition["internalParameters"]["key"]
        finished = details.get("metadata", {}).get("finishedOn", "")
        materials = tuple(
            (str(each["uri"]), next(iter(each.get("digest", {}).values()), ""))
            for each in definition["resolvedDependencies"]
        )
        same = hashlib.sha256(canonical(outer["image"])).hexdigest() == key
        if definition["buildType"] != BUILD_TYPE or not same:
            return None
        return MadeFrom(str(details["builder"]["id"]), str(outer["tier"]), key, str(finished), materials)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
