"""What pipeline.yaml says of named contexts: what Dockerfiles take from beside the build context, and the circles of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.model import MOST_ANCESTORS, NamedContext
from imagetiers.config.schema import cut, place
from imagetiers.config.yamltree import Node, Path
from imagetiers.errors import Problem
from imagetiers.suggestions import did_you_mean

__all__ = ["context_problems", "read_contexts"]

_SECTION = "contexts"

Edges = Mapping[str, Mapping[str, Path]]
"""By tier, the tiers that it is made from, and where that is said."""


def read_contexts(given: Mapping[str, Any]) -> Mapping[str, NamedContext]:
    """Return a tier's named contexts, by name."""
    return MappingProxyType({name: _context(context) for name, context in sorted(given.items())})


def _context(given: Mapping[str, str]) -> NamedContext:
    path = given.get("path")
    return NamedContext(given.get("tier"), path.strip("/") if path is not None else None, given.get("image"))


def context_problems(tree: Node) -> Iterator[Problem]:
    """Yield what a schema cannot say: tiers that are not there, and tiers that would be made from themselves.

    Circles of parents alone are the parents' own problem.
    """
    tiers = tree.at(("tiers",)).value
    if tree.at(("tiers",)) is tree or not isinstance(tiers, dict):
        return
    edges: dict[str, dict[str, Path]] = {name: {} for name in tiers}
    for name, tier in tiers.items():
        plain = tier.plain()
        given = plain if isinstance(plain, dict) else {}
        parent = given.get("parent")
        if isinstance(parent, str) and parent in tiers:
            edges[name][parent] = ("tiers", name, "parent")
        contexts = given.get(_SECTION)
        for context, said in contexts.items() if isinstance(contexts, dict) else ():
            other = said.get("tier") if isinstance(said, dict) else None
            path = ("tiers", name, _SECTION, context, "tier")
            if isinstance(other, str) and other not in tiers:
                hint = did_you_mean(other, [tier for tier in tiers if tier != name], "tiers")
                yield Problem(place(tree, path, PIPELINE_FILE), f"there is no tier '{cut(other)}'", hint)
            elif isinstance(other, str):
                edges[name].setdefault(other, path)
        yield from _nested_problems(tree, name, contexts)
    yield from _graph_problems(tree, edges)


def _nested_problems(tree: Node, tier: str, contexts: Any) -> Iterator[Problem]:
    """Yield each folder that lies in another one of the tier's: a key calls a file by its path in the repository, once."""
    said = contexts.items() if isinstance(contexts, dict) else ()
    paths = {
        name: each["path"].strip("/") for name, each in said if isinstance(each, dict) and _is_text(each.get("path"))
    }
    for name, path in paths.items():
        outer = next((other for other, above in paths.items() if path.startswith(f"{above}/")), None)
        if outer is not None:
            where = place(tree, ("tiers", tier, _SECTION, name, "path"), PIPELINE_FILE)
            yield Problem(where, f"lies in the folder of '{outer}'", f"take it from there: --from={outer}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _graph_problems(tree: Node, edges: Edges) -> Iterator[Problem]:
    circles, depths = _walk(edges)
    for circle in circles:
        for name, target in zip(circle, [*circle[1:], circle[0]], strict=True):
            path = edges[name][target]
            if _SECTION in path:
                at = circle.index(name)
                shown = " -> ".join([*circle[at:], *circle[:at], name])
                hint = "take one of these edges away"
                yield Problem(place(tree, path, PIPELINE_FILE), f"is made from itself: {shown}", hint)
                break
    for name, targets in edges.items():
        deepest = max(targets, key=lambda target: depths[target], default=None)
        if deepest is not None and depths[name] == MOST_ANCESTORS + 1 and _SECTION in targets[deepest]:
            what = f"is made from tiers {depths[name]} deep; the limit is {MOST_ANCESTORS}"
            yield Problem(place(tree, targets[deepest], PIPELINE_FILE), what, "take from an earlier one")


def _walk(edges: Edges) -> tuple[list[list[str]], Mapping[str, int]]:
    """Return the circles, each once, and how many tiers deep the longest way down from each tier is."""
    circles: list[list[str]] = []
    depths: dict[str, int] = {}
    for start in edges:
        way = {start: iter(edges[start])} if start not in depths else {}
        while way:
            name = next(reversed(way))
            target = next(way[name], None)
            if target is None:
                del way[name]
                depths[name] = 1 + max((depths.get(below, 0) for below in edges[name]), default=-1)
            elif target in way:
                names = list(way)
                circles.append(names[names.index(target) :])
            elif target not in depths:
                way[target] = iter(edges[target])
    return circles, depths
