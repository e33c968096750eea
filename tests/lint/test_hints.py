"""What people elsewhere read names nothing that only this repository has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from imagetiers.config.schema import schema_text
from imagetiers.planning.infrastructure import BUILDER_FILE
from tests.conftest import HERE

PACKAGE = HERE.parent / "imagetiers"
OURS = ("ci/bootstrap", "ci/builder", "ci/engine", "ci/venv", "docs/", "images/README", "ARCHITECTURE.md")
# What is made of it is made in a checkout of imagetiers, and that is said beside it.
IN_OUR_CHECKOUT = {BUILDER_FILE}
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if "templates" not in path.parts]


def texts(module: Path) -> list[str]:
    """Return the texts of a module that are no docstrings."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_texts_name_nothing_of_ours(module: Path) -> None:
    found = [text for text in texts(module) if any(name in text for name in OURS)]
    assert [text for text in found if text not in IN_OUR_CHECKOUT] == []


def test_neither_does_the_schema() -> None:
    assert [name for name in OURS if name in schema_text().decode()] == []


@pytest.mark.parametrize("name", ["minimal", "python-app", "common"])
def test_nor_do_the_files_of_init(name: str) -> None:
    files = [path for path in (PACKAGE / "scaffold" / "templates" / name).rglob("*") if path.is_file()]

    assert files
    assert [str(path) for path in files if any(each in path.read_text(encoding="utf-8") for each in OURS)] == []
