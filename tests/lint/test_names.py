"""One name, one thing: no two public classes of the package share theirs."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from tests.conftest import HERE

PACKAGE = HERE.parent / "imagetiers"


def shared(package: Path) -> dict[str, list[str]]:
    """Return the names that several public classes have, with where they are."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(f"{path.relative_to(package)}:{node.lineno}")
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_two_classes_have_one_name() -> None:
    assert shared(PACKAGE) == {}


def test_two_of_one_name_are_found(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a.py", "below/b.py"):
        (tmp_path / name).write_text("class State: ...\nclass _Own: ...\n")

    assert shared(tmp_path) == {"State": ["a.py:1", "below/b.py:1"]}
