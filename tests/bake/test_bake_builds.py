"""Bake files and what they are ported to, built by bake and by doit: the same files under the same names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bake.test_bake import FILES
from tests.conftest import HERE, Golden
from tests.engine.conftest import REPO, Checkout, files_of, remove_all

pytestmark = pytest.mark.engine
CLI = [sys.executable, "-c", "import sys; from imagetiers.cli import main; sys.exit(main())"]
# shop: what people have. The others in the style of what is well known: a language's official images, a service with what
# its changes must pass, a matrix of images for models.
TARGETS = {
    "shop": ["base", "api", "worker"],
    "language": ["slim", "full"],
    "service": ["service", "lint", "test"],
    "models": ["base", "framework", "serve", "train"],
}


@pytest.fixture
def ported(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Checkout]:
    case: str = request.param
    root = tmp_path / f"test-{case}-{os.getpid()}"
    shutil.copytree(FILES / case, root)
    # As with an umask of 022: bake copies modes as they are, and doit those that git keeps.
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    own = f"{root.name}/bake"
    made = Checkout(root, root.name, {"PIP_TOKEN": "x", "REGISTRY": own, "REPOSITORY": f"{own}/lang"})
    yield made
    remove_all(made)


def init(checkout: Checkout) -> str:
    env = {**os.environ, **checkout.env, "PYTHONPATH": str(REPO)}
    argv = [*CLI, "init", "--from-bake", "docker-bake.hcl"]
    begun = subprocess.run(argv, cwd=checkout.root, env=env, capture_output=True, text=True, check=False)
    assert begun.returncode == 0, begun.stderr
    return begun.stdout


def bake(checkout: Checkout, *args: str) -> str:
    argv = ["docker", "buildx", "bake", "--set=*.cache-to=", "--set=*.cache-from=", *args]
    env = {**os.environ, **checkout.env}
    done = subprocess.run(argv, cwd=checkout.root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("ported", TARGETS, indirect=True)
def test_bake_and_doit_build_the_same(ported: Checkout, request: pytest.FixtureRequest) -> None:
    case = request.node.callspec.params["ported"]
    bake(ported, *TARGETS[case])
    printed = json.loads(bake(ported, "--print", *TARGETS[case]))["target"]
    theirs = {tag: files_of(tag) for target in printed.values() for tag in target.get("tags", ())}
    assert len(theirs) >= 1

    out = ported.root / "out"  # what the service's test leaves
    report = (out / "tests.txt").read_text() if out.exists() else ""
    shutil.rmtree(out, ignore_errors=True)

    assert "to be mended" not in init(ported)
    run = ported.doit()

    assert run.code == 0, run.text
    refs = {str(tier["ref"]) for tier in ported.plan().values()}
    assert len(refs) == len(printed)
    for tag, files in theirs.items():
        assert files_of(tag) == files, tag
    if case == "service":
        assert (out / "tests.txt").read_text() == report == "ok order\nok invoice\n"


@pytest.mark.parametrize("case", ["language", "service", "models"])
def test_what_only_bake_can_evaluate_becomes(case: str, tmp_path: Path, golden: Golden) -> None:
    root = tmp_path / case
    shutil.copytree(FILES / case, root)

    said = init(Checkout(root, case))

    golden(f"{said}\n{(root / 'pipeline.yaml').read_text()}", HERE / "golden" / "bake" / f"{case}.txt")


@pytest.mark.parametrize("ported", ["language"], indirect=True)
def test_a_variable_changes_what_it_would_change_with_bake(ported: Checkout) -> None:
    init(ported)

    tags = {name: tier["tags"] for name, tier in ported.plan(f"REPOSITORY={ported.name}/other").items()}

    assert tags["full-1-2"] == [f"{ported.name}/other:1.2", f"{ported.name}/other:latest"]
