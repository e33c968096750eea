"""The linters are tests: `pytest` alone says everything."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HERE

REPO = HERE.parent
BIN = Path(sys.executable).parent


def run(*argv: str) -> None:
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    run(str(BIN / "ruff"), "check", "--output-format", "concise", ".")


def test_format() -> None:
    run(str(BIN / "ruff"), "format", "--check", ".")


@pytest.mark.timeout(300)
def test_mypy() -> None:
    run(str(BIN / "mypy"))


def test_layers() -> None:
    run(str(BIN / "lint-imports"), "--no-cache")


def test_dodo_is_one_import_and_one_line() -> None:
    _docstring, *statements = ast.parse((REPO / "dodo.py").read_text()).body

    assert [type(statement) for statement in statements] == [ast.ImportFrom, ast.Expr]


def test_nothing_runs_a_shell() -> None:
    for path in (REPO / "imagetiers").rglob("*.py"):
        if {"templates", "build_folder"} & set(path.parts):  # they run in images
            continue
        text = path.read_text()
        if path.name not in {"process.py", "workers.py"}:  # the second starts this program, and no other
            assert "subprocess" not in text, path
        assert "shell=True" not in text, path
        assert "os.system" not in text, path
