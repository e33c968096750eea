"""doit gc: what it says would come back comes back, from the engine's images and from BuildKit's cache."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers.adapters.docker import DockerEngine
from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all
from tests.registry.harness import NoCancellation

PIPELINE = """\
version: 1
name: %s
tiers:
  base: {bases: {BASE: "debian:trixie-slim"}}
  app: {parent: base}
"""
FILL = "RUN head -c %d /dev/urandom >/%s"


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    shutil.rmtree(made.root / "images")
    (made.root / "pipeline.lock.yaml").unlink(missing_ok=True)
    (made.root / "pipeline.yaml").write_text(PIPELINE % made.name)
    for tier in ("base", "app"):
        (made.root / "images" / tier).mkdir(parents=True)
        (made.root / "images" / tier / ".image-manifest").write_text("")
    fill(made, "base", 3_000_000)
    fill(made, "app", 1_000_000)
    yield made
    remove_all(made)


def fill(checkout: Checkout, tier: str, size: int) -> None:
    start = "ARG BASE\nFROM ${BASE}" if tier == "base" else "ARG PARENT\nFROM ${PARENT}"
    (checkout.root / f"images/{tier}/Dockerfile").write_text(f"{start}\n{FILL % (size, tier)}\n")


def records(size: int) -> list[str]:
    """Return the records of BuildKit's that are of layers of that size."""
    return [record.id for record in DockerEngine(NoCancellation()).build_cache() if record.size == size]


def test_what_it_says_would_come_back_comes_back(checkout: Checkout) -> None:
    assert checkout.doit("image").code == 0
    before = checkout.refs()
    fill(checkout, "app", 1_234_567)
    assert checkout.doit("image").code == 0
    old = {ref for ref in before if "/app:" in ref}
    assert len(checkout.refs() - old) == 2

    kept = checkout.doit("gc", "--days=0", "--dry-run")
    assert "images: 3 kept\n" in kept.out
    assert kept.out.endswith("\n0 B would come back\n")

    dry = checkout.doit("gc", "--days=0", "--keep=1", "--dry-run")
    assert dry.code == 0, dry.text
    assert "images: 2 kept, 1 would be removed" in dry.out
    assert "1 MB would come back" in dry.out
    assert checkout.refs() >= old

    done = checkout.doit("gc", "--days=0", "--keep=1")
    assert done.code == 0, done.text
    assert "1 MB came back" in done.out
    assert not checkout.refs() & old
    assert not records(1_000_000)
    assert len(records(1_234_567)) == 1
    assert checkout.doit("plan", "--require-built").code == 0


def test_it_leaves_what_others_use(checkout: Checkout, tmp_path: Path) -> None:
    assert checkout.doit("image").code == 0
    old = {ref.rpartition(":")[0].rpartition("/")[2]: ref for ref in checkout.refs()}
    named = f"{checkout.name}/mine:latest"
    docker("tag", old["base"], named)
    container = docker("create", old["app"], "true").strip()
    try:
        fill(checkout, "base", 2_000_000)
        assert checkout.doit("image").code == 0
        run = checkout.doit("gc", "--days=0", "--keep=0")
        assert run.code == 0, run.text
        assert checkout.refs() >= {*old.values(), named}
    finally:
        docker("rm", container)
    other = make_checkout(checkout.root, tmp_path / "other")
    assert json.loads(other.doit("status", "--json", "-").out)["pipeline"] == other.name
    assert other.doit("gc", "--days=0", "--keep=0").code == 0
    assert checkout.refs() >= {*old.values(), named}
    docker("rmi", named)
    run = checkout.doit("gc", "--days=0", "--keep=0")
    assert re.search(r"images: 2 kept, 2 removed", run.out), run.text
    assert not checkout.refs() & set(old.values())
