"""pipeline.yaml as it is written -> what it comes to: variables filled in, tiers whole, matrices and groups laid out.

What comes out is a pipeline that says the same without `variables`, `extends` and `matrix`, and has each value's own place in
the file. Where nothing of it is used, it is the very tree that came in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from imagetiers.config.groups import resolve_groups
from imagetiers.config.inheritance import EXTENDS, inherit
from imagetiers.config.interpolation import MATRIX, REFERENCE, VARIABLE, Filling, Value
from imagetiers.config.matrix import Families, expand_matrices
from imagetiers.config.variables import SECTION, read_variables
from imagetiers.config.yamltree import Node, Path
from imagetiers.errors import Problem
from imagetiers.repository_file import Reads

__all__ = ["Expanded", "expand", "is_shorthand", "uses_shorthand"]

_NOT_FILLED = frozenset({"version", "variants", SECTION})
_WHOM = ("no variable decides whom a pipeline trusts", "write the value itself, or a variant")
_WHY = {"trust": _WHOM, "supply_chain": _WHOM}


@dataclass(frozen=True, slots=True)
class Expanded:
    """The tree without shorthand, what is wrong with that and where (`wrong`), the values of variables, and cells by tier."""

    tree: Node
    problems: tuple[Problem, ...] = ()
    wrong: frozenset[Path] = frozenset()
    values: Mapping[str, Value] = field(default_factory=dict)
    families: Families = field(default_factory=dict)


def is_shorthand(path: Path) -> bool:
    """Say whether a path of the file as it is written is of what the expansion takes away."""
    return path[:1] == (SECTION,) or (path[:1] == ("tiers",) and path[2:3] in {(MATRIX,), (EXTENDS,)})


def expand(tree: Node, given: Mapping[str, str], reads: Reads, wrong: frozenset[Path]) -> Expanded:
    """Return what the tree comes to with the variables that the command line gives; `wrong` is what the schema has found.

    Raises PipelineError for matrices of more than anybody means.
    """
    problems: dict[Problem, None] = {}
    found: set[Path] = set(wrong)
    values = read_variables(tree, given, reads, problems, found)
    written = tree.value if isinstance(tree.value, dict) else {}
    entries = {
        key: _fill(key, node, values, problems, found) if key not in _NOT_FILLED else node
        for key, node in written.items()
        if key != SECTION
    }
    whole = inherit(replace(tree, value=entries), problems, found)
    laid_out, families = expand_matrices(whole, problems, found)
    known = {name: value for name, value in values.items() if value is not None}
    return Expanded(resolve_groups(laid_out, families, problems), tuple(problems), frozenset(found), known, families)


def _fill(
    key: str, node: Node, values: Mapping[str, Value | None], problems: dict[Problem, None], wrong: set[Path]
) -> Node:
    why = _WHY.get(key)
    if why is not None:
        return Filling(VARIABLE, None, problems, wrong, why).fill(node, (key,))
    return Filling(VARIABLE, values, problems, wrong).fill(node, (key,))


def uses_shorthand(tree: Node, *, may_refer: bool) -> bool:
    """Say whether there is anything to expand; where the file cannot hold a reference, its values are not looked at."""
    written = tree.value if isinstance(tree.value, dict) else {}
    tiers = written["tiers"].value if "tiers" in written else None
    return (
        SECTION in written
        or "groups" in written
        or any(
            isinstance(tier.value, dict) and not {MATRIX, EXTENDS}.isdisjoint(tier.value)
            for tier in (tiers.values() if isinstance(tiers, dict) else ())
        )
        or (may_refer and any(REFERENCE in text for text in _texts(tree)))
    )


def _texts(tree: Node) -> Iterator[str]:
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node.value, dict):
            left += node.value.values()
        elif isinstance(node.value, list):
            left += node.value
        elif isinstance(node.value, str):
            yield node.value
