"""A builder's layers, which one worker has made and another one's BuildKit has never seen, on the real engine and registry."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import (
    Checkout,
    docker,
    forget_images,
    layer_records,
    make_checkout,
    remove_all,
    use_registry,
)
from tests.registry.server import RegistryServer


def forget_layers(mark: str) -> None:
    """Let this machine's BuildKit forget the layers that were made by a command with that mark, and all that lies on them."""
    records = layer_records()
    gone = {record["ID"] for record in records if mark in record.get("Description", "")}
    assert gone
    while more := {record["ID"] for record in records if record.get("Parent") in gone} - gone:
        gone |= more
    for _ in gone:  # one that another lies on stays until that is gone
        for each in gone:
            subprocess.run(
                ["docker", "buildx", "prune", "-af", "--filter", f"id={each}"], capture_output=True, check=True
            )
    assert mark not in docker("buildx", "du", "--verbose")


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def first(tmp_path: Path, registry_server: RegistryServer, mark: str) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "first")
    use_registry(made, registry_server)
    made.edit("pipeline.yaml", "compile: {stage", "compile: {share_layers: true, stage")
    made.edit("images/pytorch-clean/Dockerfile", "COPY make-wheel", f"RUN echo {mark} > /toolchain\nCOPY make-wheel")
    yield made
    remove_all(made)


def builder_log(checkout: Checkout) -> str:
    logs = (checkout.root / ".imagetiers").rglob("builder-*.log")
    return max(logs, key=lambda path: path.stat().st_mtime).read_text()


def test_a_fresh_worker_builds_on_the_layers_of_another(first: Checkout, tmp_path: Path, mark: str) -> None:
    made = first.doit("push:pytorch-clean")
    assert made.code == 0, made.text
    assert "the builder's layers are in " in made.out
    assert "not found" in builder_log(first), "the first one has nothing to take, and goes on"
    forget_images(first)
    forget_layers(mark)

    worker = make_checkout(first.root, tmp_path / "worker", first.name)
    (worker.root / "images/pytorch-clean/source.txt").write_text("other words\n")
    warm = worker.doit("trust=untrusted", "branch=pr-7", "compile")

    assert warm.code == 0, warm.text
    log = builder_log(worker)
    # Pulled beforehand, or with containerd's image store unpacked at that moment: made again it is in neither case.
    taken = rf"(#\d+) .*RUN echo {mark} > /toolchain\n(\1 .*\n)*\1 (CACHED|extracting )"
    assert re.search(taken, log), log
    assert "the builder's layers" not in warm.text, "an untrusted build writes nothing"
