"""doit gc: what it says would come back comes back, from the engine's images and from BuildKit's cache."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, layer_records, make_checkout, remove_all

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
    """Return the records of BuildKit's that are of a layer with a file of that size."""
    made_by = f"head -c {size} "
    return [record["ID"] for record in layer_records() if made_by in record.get("Description", "")]


def test_what_it_says_would_come_back_comes_back(checkout: Checkout) -> None:
    size = 1_000_000 + secrets.randbelow(4_000)  # no other test has left a layer of that size
    fill(checkout, "app", size)
    assert checkout.doit("image").code == 0
    before = checkout.refs()
    fill(checkout, "app", size + 5_000)
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
    assert not records(size)
    assert len(records(size + 5_000)) == 1
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


def test_a_builder_image_goes_with_its_wheels(tmp_path: Path) -> None:
    checkout = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    try:
        assert checkout.doit("image:pytorch-clean").code == 0
        old = checkout.refs()
        checkout.edit("images/pytorch-clean/source.txt", "one", "uno")
        assert checkout.doit("image:pytorch-clean").code == 0
        (key,) = (str(tier["compile"]["key"]) for tier in checkout.plan().values() if tier["compile"])  # type: ignore[index]
        folder = checkout.root / ".imagetiers/wheels"
        assert len([path for path in folder.iterdir() if path.name[0] != "."]) == 2

        run = checkout.doit("gc", "--days=0", "--keep=1")
        assert run.code == 0, run.text
        assert "builder images: 1 kept, 1 removed" in run.out
        assert [path.name for path in folder.iterdir()] == [key]
        assert len(checkout.refs()) == 2
        assert not checkout.refs() & {ref for ref in old if not ref.endswith(key[:12])}
        assert checkout.doit("image:pytorch-clean").executed == []
    finally:
        remove_all(checkout)
