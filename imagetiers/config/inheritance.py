"""`extends:` between tiers: a tier is the one that it extends with a merge patch over it, as variants are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from imagetiers.config.chains import ancestors, chain_problems, links
from imagetiers.config.yamltree import Node, Path, merge_patch
from imagetiers.errors import Problem

__all__ = ["EXTENDS", "inherit", "without_extends"]

EXTENDS = "extends"


def inherit(tree: Node, problems: dict[Problem, None], wrong: set[Path]) -> Node:
    """Return the tree with each tier whole. One that extends nothing that there is stays as it is, and is `wrong`."""
    tiers = tree.at(("tiers",))
    if tiers is tree or not isinstance(tiers.value, dict):
        return tree
    above = links(tiers.value, EXTENDS)
    if not above and not any(isinstance(tier.value, dict) and EXTENDS in tier.value for tier in tiers.value.values()):
        return tree
    problems.update(dict.fromkeys(chain_problems(tree, "tiers", EXTENDS, above, "let one of them extend nothing")))
    depth = ancestors(above)
    whole: dict[str, Node] = {name: without_extends(tier) for name, tier in tiers.value.items()}
    for name in sorted(above, key=lambda name: depth[name] or 0):
        base = whole.get(above[name])
        if depth[name] is None or base is None or ("tiers", above[name]) in wrong:
            wrong.add(("tiers", name))
        else:
            own = whole[name]
            whole[name] = replace(merge_patch(base, own), line=own.line, column=own.column)
    return replace(tree, value={**_entries(tree), "tiers": replace(tiers, value=whole)})


def without_extends(tier: Node) -> Node:
    """Return a tier, or a variant, without the key that names what it extends."""
    if not isinstance(tier.value, dict) or EXTENDS not in tier.value:
        return tier
    return replace(tier, value={key: node for key, node in tier.value.items() if key != EXTENDS})


def _entries(tree: Node) -> Mapping[str, Node]:
    return tree.value if isinstance(tree.value, dict) else {}
