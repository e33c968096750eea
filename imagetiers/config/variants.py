"""Variants: merge patches over the pipeline, each by itself or over another variant that it extends. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imagetiers.config.chains import ancestors, chain_problems, links
from imagetiers.config.inheritance import EXTENDS, without_extends
from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.schema import cut, place
from imagetiers.config.yamltree import Node, merge_patch
from imagetiers.errors import PipelineError, Problem
from imagetiers.suggestions import did_you_mean

__all__ = ["bases_of", "patched", "same_tag_problems", "variant_names", "variant_problems"]

_SECTION = "variants"
_NOT_IN_VARIANTS = ("version", "name", _SECTION)


def variant_names(base: Node) -> tuple[str, ...]:
    """Return the variants of a pipeline as it is written."""
    section = base.value.get(_SECTION) if isinstance(base.value, dict) else None
    return tuple(section.value) if section is not None and isinstance(section.value, dict) else ()


def bases_of(base: Node, variant: str) -> tuple[str, ...]:
    """Return the variants that a variant extends, as far as there are such, the nearest first; none of a circle."""
    section = base.at((_SECTION,)).value
    variants = section if isinstance(section, dict) else {}
    above = {name: up for name, up in links(variants, EXTENDS).items() if up in variants}
    if variant in above and ancestors(above)[variant] is None:
        return ()
    found: list[str] = []
    up = variant
    while up in above:
        up = above[up]
        found.append(up)
    return tuple(found)


def patched(base: Node, variant: str | None) -> Node:
    """Return the pipeline with a variant applied, after those that it extends. Raises PipelineError where it cannot be."""
    if variant is None:
        return base
    names = variant_names(base)
    if variant not in names:
        raise PipelineError(
            Problem("", f"variant={variant}: there is no such variant", did_you_mean(variant, names, _SECTION))
        )
    tree = base
    for name in reversed((variant, *bases_of(base, variant))):
        patch = base.at((_SECTION, name))
        if not isinstance(patch.value, dict):
            where = place(base, (_SECTION, name), PIPELINE_FILE)
            hint = "a merge patch over this file, such as {gpus: [A100]}"
            raise PipelineError(Problem(where, "must be a mapping", hint))
        tree = merge_patch(tree, without_extends(patch))
    return tree


def variant_problems(base: Node) -> Iterator[Problem]:
    """Yield what is wrong in any variant, whichever is asked for."""
    names = variant_names(base)
    for name in names:
        patch = base.at((_SECTION, name))
        for key in patch.value if isinstance(patch.value, dict) else ():
            if key in _NOT_IN_VARIANTS:
                where = place(base, (_SECTION, name, key), PIPELINE_FILE, key=True)
                yield Problem(where, "a variant cannot change this", "change the tiers, gpus, registry or cache")
        extends = base.at((_SECTION, name, EXTENDS))
        if isinstance(patch.value, dict) and EXTENDS in patch.value and not isinstance(extends.value, str):
            where = place(base, (_SECTION, name, EXTENDS), PIPELINE_FILE)
            yield Problem(where, "must be the name of a variant", f"{EXTENDS}: NAME")
    section = base.at((_SECTION,)).value
    if names and isinstance(section, dict):
        yield from chain_problems(base, _SECTION, EXTENDS, links(section, EXTENDS), "let one of them extend nothing")


def same_tag_problems(usual: Node, of: str | None, tree: Node, variant: str) -> Iterator[Problem]:
    """Yield tiers that are another stage than in `usual`, the pipeline as it is or with the variant `of`, under the same tag.

    What another stage makes, such as one with compilers and debuggers, is never pushed under the tag of what others run.
    """
    before, own = usual.plain(), tree.plain()
    if any(before.get(key) != own.get(key) for key in ("registry", "channels")):
        return
    tiers = before.get("tiers")
    for name, tier in (own.get("tiers") if isinstance(own.get("tiers"), dict) else {}).items():
        known = tiers.get(name) if isinstance(tiers, dict) else None
        if not isinstance(known, dict) or not isinstance(tier, dict) or tier.get("target") == known.get("target"):
            continue
        taken = {known.get("tag") or of or "latest", *_listed(known.get("tags"))}
        for tag in (tier.get("tag") or variant, *_listed(tier.get("tags"))):
            if tag in taken and tier.get("image") == known.get("image"):
                without = f"in the variant {of}" if of is not None else "without the variant"
                what = f"another stage than {without} would have the same tag, {cut(str(tag))}"
                yield Problem(place(tree, ("tiers", name, "target"), PIPELINE_FILE), what, f'tag: "{tag}-{variant}"')


def _listed(given: Any) -> list[Any]:
    return [each for each in given if isinstance(each, str)] if isinstance(given, list) else []
