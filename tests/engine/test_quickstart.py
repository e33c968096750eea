"""The repository's own pipeline, variant quickstart: the real PyTorch source, really compiled, killed, continued, edited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.engine.conftest import C10, Checkout, Run, docker, make_checkout, remove_all

TIERS = ["pytorch-clean", "arr-base", "arr-training", "arr-runner"]
VARIANT = "variant=quickstart"


def doit(checkout: Checkout, *args: str) -> Run:
    run = checkout.doit(VARIANT, *args)
    assert run.code == 0, run.text
    return run


def lose_wheels(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".imagetiers" / "wheels")
    assert checkout.store is not None
    lost = [blob.name for blob in checkout.store.list("wheels/")]
    assert lost
    for name in lost:
        checkout.store.delete(name)


@pytest.mark.timeout(3600)  # with a compile that takes minutes on a quiet machine
def test_the_quickstart(c10: C10, tmp_path: Path) -> None:
    quickstart, server = c10.checkout, c10.server
    # Killed in the middle of a real compile, it has gone on, and nothing was compiled twice.
    assert "resumes the compile that is still running" in c10.resumed.out
    record = quickstart.records("compile")[-1]
    compiled = record["misses"]
    assert record["hits"] == 0
    assert isinstance(compiled, int)
    assert compiled > 80
    first = doit(quickstart)
    assert first.out.count("checks passed") == len(TIERS)
    assert f"{quickstart.name}/arr-runner:quickstart" in quickstart.refs()

    # The wheel says what was compiled into it: what ninja knows that the compilers have read.
    sbom = "cat /opt/venv/lib/*/site-packages/pytorch_c10-*.dist-info/sboms/pytorch-c10.cdx.json"
    image = f"{quickstart.name}/pytorch-clean:2.6.0-c10"
    parts = {
        each["name"]
        for each in json.loads(docker("run", "--rm", "--entrypoint", "sh", image, "-c", sbom))["components"]
    }
    assert {"pytorch", "libfmt-dev", "libcpuinfo-dev"} <= parts
    assert "libsleef-dev" not in parts, "it is installed, and c10 includes nothing of it"

    # A second one runs nothing. What that costs is held by counts in test_nothing_to_do.py, in seconds by benchmarks/noop.py.
    assert doit(quickstart).executed == []

    for path in (quickstart.root / "images").rglob("*"):
        path.touch()
    assert doit(quickstart).executed == []

    # An edit reaches exactly the tiers downstream.
    program = quickstart.root / "images" / "arr-training" / "programs" / "c10" / "arr_train" / "line.py"
    program.write_text(program.read_text() + "\n# edited\n")
    assert doit(quickstart).executed == [f"{verb}:{tier}" for verb in ("image", "verify") for tier in TIERS[2:]]

    # The runtime stage alone compiles nothing.
    dockerfile = "images/pytorch-clean/Dockerfile"
    quickstart.edit(dockerfile, "USER arr", "ENV EDITED=1\nUSER arr")
    assert doit(quickstart).executed == [f"{verb}:{tier}" for verb in ("image", "verify") for tier in TIERS]

    # A tier that was removed comes back alone.
    docker("rmi", "-f", *[ref for ref in quickstart.refs() if "/arr-base:" in ref])
    assert doit(quickstart).executed == ["image:arr-base", "verify:arr-base"]

    # A fresh worker, where nothing is left: wheels that are lost in the bucket, too, come back through its ccache.
    lose_wheels(quickstart)
    remove_all(quickstart)
    fresh = make_checkout(quickstart.root, tmp_path / "fresh", quickstart.name, server)
    warm = doit(fresh)
    record = fresh.records("compile")[-1]
    assert (record["hits"], record["misses"]) == (compiled, 0)
    assert "entries restored" in warm.out
    assert "ccache push: nothing new" in warm.out
    assert ": 0 bad" in doit(fresh, "ccache:verify").out

    # With the wheels in the bucket, a fresh worker compiles nothing at all.
    remove_all(fresh)
    again = make_checkout(fresh.root, tmp_path / "again", fresh.name, server)
    assert "taken from gs://" in doit(again).out
    assert again.containers() == []

    # The images do what they are for.
    runner = f"{quickstart.name}/arr-runner:quickstart"
    assert "arr-run run" in docker("run", "--rm", runner)
    assert docker("run", "--rm", "--entrypoint", "id", runner, "-u").strip() != "0"
    assert Path(fresh.root / ".imagetiers" / "logs" / "pytorch-clean").is_dir()
