"""pipeline.yaml as it comes to with a variant and values: YAML without shorthand, which is read to the same keys."""

from __future__ import annotations

from typing import Any

import yaml

from imagetiers.config.expansion import Expanded
from imagetiers.config.interpolation import escaped, text_of
from imagetiers.config.matrix import Families
from imagetiers.config.yamltree import is_text

__all__ = ["resolved_text"]

_WIDTH = 120
_SECTION = "variants"


def resolved_text(expanded: Expanded, variant: str | None) -> str:
    """Return the text. A tier's tag, which would be the variant's name, is written out."""
    given = {key: value for key, value in _escaped(expanded.tree.plain()).items() if key != _SECTION}
    if isinstance(given.get("waivers"), list):
        given["waivers"] = [one for waiver in given["waivers"] for one in _waivers(waiver, expanded.families)]
    for tier in given["tiers"].values() if variant is not None else ():
        tier.setdefault("tag", variant)
    said = [f"variant={variant}"] if variant is not None else []
    said += [f"{name}={text_of(value)}" for name, value in expanded.values.items()]
    text: str = yaml.dump(
        given, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=_WIDTH, allow_unicode=True
    )
    return f"# pipeline.yaml{' with ' if said else ''}{', '.join(said)}\n{text}"


def _waivers(waiver: dict[str, Any], families: Families) -> list[dict[str, Any]]:
    """Return a waiver for each cell of its tier."""
    cells = families.get(waiver.get("tier", ""))
    return [waiver] if cells is None else [{**waiver, "tier": cell} for cell in cells]


def _escaped(value: Any) -> Any:
    """Return a value whose texts mean themselves when they are read."""
    if isinstance(value, dict):
        return {key: _escaped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return escaped(value) if isinstance(value, str) else value


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote what YAML 1.2 reads as a number and YAML 1.1, by which PyYAML decides, as a text: 1e5."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_text(text) else '"')


_Dumper.add_representer(str, _text)
