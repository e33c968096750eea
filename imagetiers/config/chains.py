"""Who stands above whom: tiers by their parents, tiers and variants by what they extend. Pure, and without recursion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.schema import cut, place
from imagetiers.config.yamltree import Node
from imagetiers.errors import Problem
from imagetiers.suggestions import did_you_mean

__all__ = ["ancestors", "chain_problems", "links"]

_SHOWN = 8  # tiers of a chain in a message
_NOBODY: Mapping[str, object] = MappingProxyType({})


def links(tiers: Mapping[str, Node], key: str) -> dict[str, str]:
    """Return whom each tier names under `key` (`parent`, `extends`); those that name nobody are not in it."""
    found: dict[str, str] = {}
    for name, tier in tiers.items():
        given = tier.value.get(key) if isinstance(tier.value, dict) else None
        if given is not None and isinstance(given.value, str):
            found[name] = given.text
    return found


def ancestors(above: Mapping[str, str]) -> dict[str, int | None]:
    """Return how many tiers stand above each one; None where they go in a circle."""
    depth: dict[str, int | None] = {}
    for name in above:
        way: dict[str, None] = {}
        up = name
        while up in above and up not in depth and up not in way:
            way[up] = None
            up = above[up]
        found = None if up in way else depth.get(up, 0)
        for below in reversed(way):
            found = depth[below] = None if found is None else found + 1
    return depth


def chain_problems(
    tree: Node, section: str, key: str, above: Mapping[str, str], cure: str, *, others: Mapping[str, object] = _NOBODY
) -> Iterator[Problem]:
    """Yield a problem for each name under `key` that neither `section` (tiers, variants) nor `others` has, and each circle."""
    there = tree.at((section,)).value
    assert isinstance(there, dict), "looked at by who asks"  # noqa: S101
    depth = ancestors(above)
    told: set[str] = set()
    for name, up in above.items():
        where = place(tree, (section, name, key), PIPELINE_FILE)
        if up not in there and up not in others:
            known = [other for other in (*there, *others) if other != name]
            yield Problem(where, f"there is no {section[:-1]} '{cut(up)}'", did_you_mean(up, known, section))
        elif depth[name] is None and name not in told:
            circle = _circle(name, above)
            told.update(circle)
            if circle:
                yield Problem(where, f"is its own ancestor: {_chain([*circle, name])}", cure)


def _circle(name: str, above: Mapping[str, str]) -> list[str]:
    """Return the tiers of a circle from one of them on; none when that only stands below it."""
    way = {name: None}
    up = above[name]
    while up not in way:
        way[up] = None
        up = above[up]
    return list(way) if up == name else []


def _chain(names: list[str]) -> str:
    """Return tiers with arrows, the middle of a long chain left out."""
    shown = names if len(names) <= _SHOWN else [*names[: _SHOWN // 2], "…", *names[-_SHOWN // 2 :]]
    return " -> ".join(shown)
