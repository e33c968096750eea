#!/usr/bin/env python3
"""Write the reference part of docs/pipeline.md from the schema's own descriptions.

python3 ci/pipeline_docs.py            writes it
python3 ci/pipeline_docs.py --check    exit code 1 if it is not what the schema says
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "schemas" / "pipeline.schema.json"
DOCUMENT = ROOT / "docs" / "pipeline.md"
MARK = "<!-- Below this line: ci/pipeline_docs.py, from schemas/pipeline.schema.json. -->\n"


def reference(schema: dict[str, Any]) -> str:
    """Return the reference: a table for each mapping with keys of its own."""
    lines: list[str] = []
    for title, part in _parts(schema, "", schema):
        lines += [f"## {title}", "", "| key | what it is |", "|---|---|"]
        required = part.get("required", [])
        lines += [f"| `{key}` | {_cell(value, schema, key in required)} |" for key, value in part["properties"].items()]
        lines.append("")
    return "\n".join(lines)


def _resolve(value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return a value with what it refers to; its own words stand before those."""
    reference = value.get("$ref")
    return value if reference is None else {**schema["$defs"][reference.rpartition("/")[2]], **value}


def _parts(part: dict[str, Any], path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each mapping with keys of its own, outer ones first; NAME stands for a name that one chooses."""
    if "properties" in part:
        yield (f"`{path}`" if path else "The file"), part
    for key, value in part.get("properties", {}).items():
        yield from _parts(_resolve(value, schema), f"{path}.{key}" if path else key, schema)
    for key, suffix in (("additionalProperties", ".NAME"), ("items", "[]")):
        inner = part.get(key)
        if isinstance(inner, dict):
            yield from _parts(_resolve(inner, schema), path + suffix, schema)


def _cell(value: dict[str, Any], schema: dict[str, Any], required: bool) -> str:  # noqa: FBT001
    whole = _resolve(value, schema)
    words = [str(whole["description"])]
    if whole.get("enum"):
        words.append("One of " + ", ".join(f"`{each}`" for each in whole["enum"]) + ".")
    if whole.get("default") is not None:
        words.append(f"Default: `{json.dumps(whole['default']).strip(chr(34))}`.")
    if required:
        words.append("**Required.**")
    return " ".join(words).replace("|", "\\|")


def document(old: str) -> str:
    """Return the document with the reference of today; what people wrote above the mark stays."""
    own, mark, _ = old.partition(MARK)
    return f"{own}{mark or MARK}\n{reference(json.loads(SCHEMA.read_text(encoding='utf-8')))}"


def main() -> int:
    """Run the command line; return the exit code."""
    old = DOCUMENT.read_text(encoding="utf-8")
    new = document(old)
    if sys.argv[1:] == ["--check"]:
        if new != old:
            sys.stderr.write(
                "docs/pipeline.md is not what the schema says\n  hint: python3 ci/pipeline_docs.py writes it\n"
            )
        return int(new != old)
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
