"""docs/threat-model.md names a test for what it says is stopped; here is that these tests exist, and are run."""

from __future__ import annotations

import ast
import re

from tests.conftest import HERE

REPO = HERE.parent
TEXT = (REPO / "docs" / "threat-model.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and "shown by" not in line]


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 15
    for path, name in named:
        functions = [
            node for node in ast.walk(ast.parse((REPO / path).read_text())) if isinstance(node, ast.FunctionDef)
        ]
        assert name in {function.name for function in functions}, f"{path}::{name}"


def test_what_is_stopped_is_shown() -> None:
    for row in ROWS:
        _, _, stops, shown, _ = row.split("|")
        assert shown.strip() or stops.strip().startswith("nothing"), row
