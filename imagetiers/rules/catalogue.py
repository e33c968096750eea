"""All rules."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from imagetiers.rules import bases, layers, packages, security
from imagetiers.rules.rule import Rule

__all__ = ["RULES"]

RULES: Mapping[str, Rule] = MappingProxyType(
    {rule.id: rule for rule in (*bases.RULES, *packages.RULES, *layers.RULES, *security.RULES)}
)
"""The rules by id, in the order of docs/rules.md."""
