"""What pipeline.yaml says of signatures, and of what is published beside images."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import MappingProxyType

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.model import SupplyChain
from imagetiers.config.schema import place
from imagetiers.config.yamltree import Node, Path
from imagetiers.errors import Problem
from imagetiers.suggestions import did_you_mean

__all__ = ["read_supply_chain", "supply_chain_problems"]

_SECTION = "supply_chain"


def supply_chain_problems(tree: Node) -> Iterator[Problem]:
    """Yield what a schema cannot say: a key that is not listed."""
    section = tree.at((_SECTION,))
    given = section.plain() if section is not tree and isinstance(section.value, dict) else {}
    keys, sign = given.get("keys", {}), given.get("sign")
    if isinstance(keys, dict) and isinstance(sign, str) and sign and sign not in keys:
        hint = did_you_mean(sign, keys, "keys") if keys else f"keys: {{{sign}: cosign.pub}}"
        yield Problem(place(tree, (_SECTION, "sign"), PIPELINE_FILE), f"there is no key '{sign}' under keys", hint)


def read_supply_chain(tree: Node, wrong: Collection[Path]) -> SupplyChain | None:
    """Return what is said; None where nothing is, or it is `wrong`."""
    given = tree.at((_SECTION,))
    if given is tree or given.value is None or any(path[:1] == (_SECTION,) for path in wrong):
        return None
    values = dict(given.plain())
    if "attach" in values:
        values["attach"] = tuple(values["attach"])
    return SupplyChain(**{**values, "keys": MappingProxyType(dict(values.get("keys", {})))})
