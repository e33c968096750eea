"""Kept build folders on the real engine, with PyTorch's own core library: the same wheels, in a fraction of the steps."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import REPO, Checkout, Run, make_checkout, remove_all
from tests.gcs.harness import GcsServer

VARIANT = "variant=quickstart"
DOCKERFILE = "images/pytorch-clean/Dockerfile"
FETCH = "fetch-debian /opt/toolchain/sources.txt /src\n"


@pytest.fixture
def server() -> Iterator[GcsServer]:
    started = GcsServer()
    yield started
    started.close()


def worker(first: Checkout | None, root: Path, server: GcsServer) -> Checkout:
    """Return a machine that has nothing but the bucket."""
    if first is None:
        return make_checkout(REPO, root, server=server)
    remove_all(first)
    return make_checkout(first.root, root, first.name, server)


def wheels_of(checkout: Checkout) -> dict[str, str]:
    """Return the wheels' hashes, and lose them."""
    found = checkout.root / ".imagetiers" / "wheels"
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found.glob("*/*.whl")}
    shutil.rmtree(found)
    assert checkout.store is not None
    for blob in list(checkout.store.list("wheels/")):
        checkout.store.delete(blob.name)
    return digests


def compiled(checkout: Checkout) -> Run:
    run = checkout.doit(VARIANT, "compile:pytorch-clean", timeout=1400)
    assert run.code == 0, run.text
    return run


@pytest.mark.timeout(3000)
def test_one_source_is_compiled_alone_and_the_wheel_is_the_same(tmp_path: Path, server: GcsServer) -> None:
    first = worker(None, tmp_path / "first", server)
    said = compiled(first).out
    assert "build folder not used: there is none yet" in said
    assert "build folder kept: " in said
    wheels = wheels_of(first)

    # A function more in one source; then the same without the folder.
    patch = "RUN echo 'int imagetiers_edit = 3;' >>/src/pytorch/c10/core/Scalar.cpp\n"
    second = worker(first, tmp_path / "second", server)
    second.edit(DOCKERFILE, FETCH, FETCH + patch)
    assert "build folder used: 1 source changed, 1 of " in compiled(second).out
    patched = wheels_of(second)
    assert patched != wheels
    third = worker(second, tmp_path / "third", server)
    third.edit("pipeline.yaml", ", build_folder: {max_size: 1G}", "")
    said = compiled(third).out
    assert "build folder" not in said
    assert wheels_of(third) == patched
    # What the compile with the folder has not asked ccache for is in its working set all the same.
    assert "88 of 88 compiler calls were hits" in said
    remove_all(third)
