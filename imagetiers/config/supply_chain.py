"""What pipeline.yaml says of signatures, and of what is published beside images."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import MappingProxyType
from typing import Any

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.model import SignedParents, SupplyChain
from imagetiers.config.schema import place
from imagetiers.config.yamltree import Node, Path
from imagetiers.errors import Problem
from imagetiers.suggestions import did_you_mean

__all__ = ["read_supply_chain", "supply_chain_problems"]

_SECTION, _RULES = "supply_chain", "require_signed_parents"


def supply_chain_problems(tree: Node) -> Iterator[Problem]:
    """Yield what a schema cannot say: keys that are not listed."""
    section = tree.at((_SECTION,))
    given = section.plain() if section is not tree and isinstance(section.value, dict) else {}
    keys = given.get("keys", {})
    if isinstance(keys, dict):
        for path, name in _named(given):
            if isinstance(name, str) and name and name not in keys:
                hint = did_you_mean(name, keys, "keys") if keys else f"keys: {{{name}: cosign.pub}}"
                yield Problem(
                    place(tree, (_SECTION, *path), PIPELINE_FILE), f"there is no key '{name}' under keys", hint
                )


def _named(given: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Yield where keys are named, and how."""
    yield ("sign",), given.get("sign")
    rules = given.get(_RULES)
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        names = rule.get("keys") if isinstance(rule, dict) else None
        for number, name in enumerate(names if isinstance(names, list) else ()):
            yield (_RULES, index, "keys", number), name


def read_supply_chain(tree: Node, wrong: Collection[Path]) -> SupplyChain | None:
    """Return what is said; None where nothing is, or it is `wrong`."""
    given = tree.at((_SECTION,))
    if given is tree or given.value is None or any(path[:1] == (_SECTION,) for path in wrong):
        return None
    values = dict(given.plain())
    if "attach" in values:
        values["attach"] = tuple(values["attach"])
    values[_RULES] = tuple(
        SignedParents(
            **{**rule, "keys": tuple(rule["keys"])}, where=place(tree, (_SECTION, _RULES, index), PIPELINE_FILE)
        )
        for index, rule in enumerate(values.get(_RULES, ()))
    )
    return SupplyChain(**{**values, "keys": MappingProxyType(dict(values.get("keys", {})))})
