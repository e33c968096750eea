"""Kept build folders on the real engine, with PyTorch's own core library: the same wheels, in a fraction of the steps."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.conftest import C10, REPO, Checkout, Run, make_checkout, remove_all

VARIANT = "variant=quickstart"
DOCKERFILE = "images/pytorch-clean/Dockerfile"
FETCH = "fetch-debian /opt/toolchain/sources.txt /src\n"


def worker(before: Checkout, root: Path) -> Checkout:
    """Lose a machine; return another one that has nothing but the bucket."""
    remove_all(before)
    made = make_checkout(before.root, root, before.name)
    return replace(before, root=made.root)


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
    run = checkout.doit(VARIANT, "compile:pytorch-clean")
    assert run.code == 0, run.text
    return run


@pytest.fixture
def first(c10: C10, tmp_path: Path) -> Iterator[Checkout]:
    """A machine that has nothing but a bucket of its own, with the ccache of a compile of c10."""
    made = make_checkout(REPO, tmp_path / "first", server=c10.server)
    made.edit("pipeline.yaml", f"name: {made.name}", f"name: {c10.checkout.name}")
    assert made.store is not None
    for blob in c10.store.list("ccache/"):
        made.store.write(blob.name, c10.store.read(blob.name)[0])
    own = replace(made, name=c10.checkout.name)
    yield own
    remove_all(own)


@pytest.mark.timeout(3600)
def test_one_source_is_compiled_alone_and_the_wheel_is_the_same(first: Checkout, tmp_path: Path) -> None:
    said = compiled(first).out
    assert "build folder not used: there is none yet" in said
    assert "88 of 88 compiler calls were hits" in said
    assert "build folder kept: " in said
    wheels = wheels_of(first)

    # A function more in one source; then the same without the folder.
    patch = "RUN echo 'int imagetiers_edit = 3;' >>/src/pytorch/c10/core/Scalar.cpp\n"
    second = worker(first, tmp_path / "second")
    second.edit(DOCKERFILE, FETCH, FETCH + patch)
    assert "build folder used: 1 source changed, 1 of " in compiled(second).out
    patched = wheels_of(second)
    assert patched != wheels
    third = worker(second, tmp_path / "third")
    third.edit("pipeline.yaml", ", build_folder: {max_size: 1G}", "")
    said = compiled(third).out
    assert "build folder" not in said
    assert wheels_of(third) == patched
    # What the compile with the folder has not asked ccache for is in its working set all the same.
    assert "88 of 88 compiler calls were hits" in said
