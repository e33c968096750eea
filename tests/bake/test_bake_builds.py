"""A bake file and what it was ported to, built by bake and by doit: the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bake.test_bake import FILES
from tests.engine.conftest import REPO, Checkout, docker, remove_all

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
TIERS = ["base", "api", "worker"]
CLI = [sys.executable, "-c", "import sys; from imagetiers.cli import main; sys.exit(main())"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Checkout]:
    root = tmp_path / f"test-shop-{os.getpid()}"
    shutil.copytree(FILES / "shop", root)
    made = Checkout(root, root.name, {"PIP_TOKEN": "x"})
    yield made
    remove_all(made)


def files(image: str) -> str:
    return docker("run", "--rm", image, "sh", "-c", "cd /opt && find . -type f -exec md5sum {} + | sort -k2")


def test_bake_and_doit_build_the_same(shop: Checkout) -> None:
    env = {**os.environ, "PIP_TOKEN": "x", "REGISTRY": f"{shop.name}/bake", "TAG": "1"}
    subprocess.run(
        ["docker", "buildx", "bake", "--set=*.cache-to=", "--set=*.cache-from=", *TIERS],
        cwd=shop.root,
        env=env,
        check=True,
        capture_output=True,
    )

    begun = subprocess.run(
        [*CLI, "init", "--from-bake", "docker-bake.hcl"],
        cwd=shop.root,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert begun.returncode == 0, begun.stderr
    assert "to be mended" not in begun.stdout
    run = shop.doit()

    assert run.code == 0, run.text
    for tier in TIERS:
        theirs = files(f"{shop.name}/bake/{tier}:1")
        assert "./" in theirs
        assert files(f"{shop.name}/{tier}:1.4.2") == theirs, tier
