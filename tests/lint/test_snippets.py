"""Python in strings is linted as Python in files is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.lint.snippets import Snippet, snippets

REPO = HERE.parent
RUFF = Path(sys.executable).with_name("ruff")
FOUND = [
    snippet
    for folder in ("tests", "benchmarks")
    for path in sorted((REPO / folder).rglob("*.py"))
    if not {"repos", "pipelines", "lint"} & set(path.relative_to(REPO).parts)
    for snippet in snippets(path)
]
# Of the rules of files, those that find errors; how a program in a string looks, nobody minds.
SELECTED = "E9,F,B,PLE,PLW,UP,SIM,RET,RUF,C4,PIE"


def lint(folder: Path, found: list[Snippet]) -> subprocess.CompletedProcess[str]:
    for number, snippet in enumerate(found):
        where = f"{snippet.path.stem}-{snippet.line}-{number}.py"
        (folder / where).write_text(snippet.text)
    command = [
        str(RUFF),
        "check",
        "--isolated",
        "--no-cache",
        "--target-version",
        "py311",
        "--output-format",
        "concise",
    ]
    command += ["--select", SELECTED, "--ignore", "F403,F405", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_each_program_in_a_string_compiles() -> None:
    assert len(FOUND) >= 10, "there are that many; the search has gone blind"
    for snippet in FOUND:
        try:
            compile(snippet.text, f"{snippet.path}:{snippet.line}", "exec")
        except SyntaxError as error:
            pytest.fail(f"{snippet.path}:{snippet.line}: {error}")


def test_each_program_in_a_string_passes_ruff(tmp_path: Path) -> None:
    done = lint(tmp_path, FOUND)

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_program_that_a_python_is_given_is_found() -> None:
    """`-c` behind sys.executable: a string beside it, or a name, whose string then begins with an import."""
    named = {(snippet.path, snippet.line) for snippet in FOUND}
    for path in {snippet.path for snippet in FOUND} | set((REPO / "tests").glob("*/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.List) or not node.elts or ast.unparse(node.elts[0]) != "sys.executable":
                continue
            given = [part.value if isinstance(part, ast.Constant) else None for part in node.elts]
            if "-c" in given and isinstance(node.elts[given.index("-c") + 1], ast.Constant | ast.JoinedStr):
                program = node.elts[given.index("-c") + 1]
                assert (path, program.lineno) in named, f"{path}:{program.lineno}"


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    module = tmp_path / "test_x.py"
    module.write_text(
        '"""import nothing."""\nX = 1\nCODE = f"""\nimport sys, os\nprint(sys.argv, {X}, undefined)\n"""\n'
    )
    folder = tmp_path / "out"
    folder.mkdir()
    (found,) = snippets(module)
    done = lint(folder, [found])

    assert found.text == "import sys, os\nprint(sys.argv, None, undefined)\n"
    assert "F401" in done.stdout
    assert "F821" in done.stdout
    assert done.returncode == 1
