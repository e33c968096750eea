"""Docker's SDK is imported by whichever thread needs it first, and no other one is in its way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers import adapters

FOLDER = Path(adapters.__file__).parent
TOGETHER = """
import importlib
import sys
import threading

from imagetiers.adapters.docker_errors import engine_errors, import_sdk

sys.setswitchinterval(1e-5)
bad, begin = [], threading.Barrier(2)


def by_its_errors():
    with engine_errors():
        pass


def by_its_client():
    import_sdk()
    importlib.import_module("docker.api.client")


def run(work):
    begin.wait()
    try:
        work()
    except BaseException as error:
        bad.append(repr(error))


threads = [threading.Thread(target=run, args=[work]) for work in (by_its_errors, by_its_client)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("; ".join(bad) or 0)
"""


@pytest.mark.parametrize("_again", range(5))
def test_two_threads_import_it_at_once(_again: int) -> None:
    done = subprocess.run([sys.executable, "-c", TOGETHER], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def imports(path: Path) -> Iterator[tuple[str, ast.stmt | None, ast.stmt]]:
    """Yield each import of a module of the SDK's in a function, with the function's name and the statement before it."""
    for function in ast.walk(ast.parse(path.read_text())):
        for body in (getattr(function, "body", None), getattr(function, "orelse", None)):
            if not isinstance(body, list) or isinstance(function, ast.Module | ast.If):
                continue
            for before, statement in zip([None, *body], body, strict=False):
                names = [each.name for each in statement.names] if isinstance(statement, ast.Import) else []
                names += [statement.module or ""] if isinstance(statement, ast.ImportFrom) else []
                if any(name.startswith(("docker.", "imagetiers.adapters.docker_cache")) for name in names):
                    yield getattr(function, "name", "?"), before, statement


def test_whoever_imports_one_of_its_modules_imports_all_of_it_before() -> None:
    found = [(path.name, *each) for path in sorted(FOLDER.glob("*.py")) for each in imports(path)]
    assert len(found) > 8
    for name, function, before, statement in found:
        chained = isinstance(before, ast.Import | ast.ImportFrom)
        assert chained or (before is not None and ast.unparse(before) == "import_sdk()"), (
            f"{name}: {function}: {ast.unparse(statement)}"
        )
