"""Programs in strings: what tests and benchmarks hand to another Python, which no linter would see."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_IMPORTS = re.compile(r"^\s*(?:import [a-z_]|from [\w.]+ import )")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A program, and where the string begins that holds it."""

    path: Path
    line: int
    text: str


def snippets(path: Path) -> Iterator[Snippet]:
    """Yield each string of a module that begins with an import, docstrings apart; what an f-string fills in is None."""
    tree = ast.parse(path.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = _text(node)
        if text is not None and id(node) not in inside and _IMPORTS.match(text):
            yield Snippet(path, getattr(node, "lineno", 0), textwrap.dedent(text).strip("\n") + "\n")


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "None" for part in node.values)
    return None
