"""The JSON Schema of pipeline.yaml for editors: the one that is checked, and references wherever they may stand.

What is checked is what a pipeline comes to, in which references are filled in; what one edits holds them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imagetiers.config.schema import schema_text

__all__ = ["editor_schema_text", "keep_marks"]

_SCALARS = frozenset({"string", "integer", "number", "boolean"})
_LIMITS = frozenset({"pattern", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "maxLength"})
_REFERENCE = {"type": "string", "pattern": r"\$\((var|matrix)\."}
_SAID = ("description", "default")
_BY_NAME, _LISTED = frozenset({"properties", "$defs"}), frozenset({"oneOf", "anyOf", "allOf"})
_ONE = frozenset({"items", "additionalProperties"})
# What takes no reference: names, and the parts of which `interpolation` and `expansion` say so.
_AS_IT_IS = frozenset(
    {"version", "variable", "variables", "variants", "trust", "trusted_key", "supply_chain", "signed_parents",
     "secrets", "extends"}
)  # fmt: skip


def keep_marks(marks: Iterable[Path], editors: Path) -> None:
    """Remember that trees have passed, and let `editors` hold this version's schema, for who edits pipeline.yaml.

    A read-only checkout is no reason to fail: it is only slower.
    """
    with contextlib.suppress(OSError):
        for mark in marks:
            if not mark.exists():
                mark.parent.mkdir(parents=True, exist_ok=True)
                editors.write_bytes(editor_schema_text())
                mark.touch()


def editor_schema_text() -> bytes:
    """Return the schema."""
    return json.dumps(_widened(json.loads(schema_text())), indent=2, ensure_ascii=False).encode() + b"\n"


def _widened(schema: Any) -> Any:
    """Return a part of the schema in which each scalar that not every text may be can be a text with a reference, too."""
    if not isinstance(schema, dict):
        return schema  # false, of additionalProperties
    kinds = schema.get("type", "")
    listed = set(kinds if isinstance(kinds, list) else [kinds])
    narrow = not _LIMITS.isdisjoint(schema) or (bool(listed & _SCALARS) and "string" not in listed)
    if narrow and "properties" not in schema and (listed & _SCALARS or "enum" in schema):
        return {**{key: schema[key] for key in _SAID if key in schema}, "anyOf": [schema, _REFERENCE]}
    return {key: _below(key, value) for key, value in schema.items()}


def _below(key: str, value: Any) -> Any:
    """Return what stands in a schema under a key."""
    if key in _BY_NAME:
        return {name: part if name in _AS_IT_IS else _widened(part) for name, part in value.items()}
    if key in _LISTED:
        return [_widened(part) for part in value]
    return _widened(value) if key in _ONE else value
