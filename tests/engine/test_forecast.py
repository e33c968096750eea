"""A record, the forecast that is made of it, and the record of the build that had it: the real doit, engine and compiler."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all
from tests.gcs.harness import GcsServer


def price(checkout: Checkout, usd_per_hour: float) -> int:
    """Let the machine that has a price be this engine; return how many processors it has."""
    cpus = int(docker("info", "--format", "{{.NCPU}}"))
    with (checkout.root / "pipeline.yaml").open("a") as file:
        file.write(f"cloudbuild: {{machine: E2_MEDIUM, processors: {cpus}, usd_per_hour: {usd_per_hour}}}\n")
    return cpus


def steps(checkout: Checkout, tier: str) -> dict[str, Any]:
    told: Any = checkout.plan()[tier]["forecast"]
    return {step["task"]: step for step in told["steps"]}


def newest(checkout: Checkout, kind: str, tier: str = "pytorch-clean") -> dict[str, Any]:
    return [record for record in checkout.records(kind) if record["tier"] == tier][-1]


def test_record_forecast_record(checkout: Checkout) -> None:
    cpus = price(checkout, 36.0)
    nobody = steps(checkout, "pytorch-clean")
    assert [(task, step["change"], step["forecast"]) for task, step in nobody.items()] == [
        ("compile:pytorch-clean", "compile cold", None),
        ("image:pytorch-clean", "image", None),
    ]
    gate = checkout.doit("plan", "--require-built")
    assert gate.code == 1
    assert "is not built, compile:pytorch-clean image:pytorch-clean would run: never built here" in gate.err

    assert checkout.doit().code == 0
    first = newest(checkout, "compile")
    assert (first["change"], first["cpus"], first["predicted"]) == ("compile cold", cpus, None)
    built = checkout.doit("plan", "--require-built")
    assert (built.code, built.err) == (0, "")
    assert "what it would take" not in built.out

    checkout.edit("images/pytorch-clean/source.txt", "one", "eins")
    forecast = steps(checkout, "pytorch-clean")["compile:pytorch-clean"]["forecast"]
    seconds = first["seconds"]
    assert forecast == {"seconds": seconds, "low": seconds, "high": seconds, "from": 1}
    run = checkout.doit("plan")
    assert re.search(r"pytorch-clean +compile cold +\d+ s +\d+ s \.\. \d+ s +1 .*\$0\.\d\d", run.out), run.out
    whole = json.loads(checkout.doit("plan", "--json", "-").out)["forecast"]
    assert whole["usd"]["median"] == pytest.approx(whole["seconds"]["median"] / 100)

    assert checkout.doit().code == 0
    second = newest(checkout, "compile")
    assert second["predicted"] == forecast
    assert second["change"] == "compile cold"
    image = newest(checkout, "image", "arr-training")
    assert image["predicted"]["from"] == 1
    assert image["change"] == "image"

    checkout.edit("images/pytorch-clean/source.txt", "eins", "uno")
    tier: Any = checkout.plan()["pytorch-clean"]["forecast"]
    assert tier["steps"][0]["forecast"]["from"] == 2
    assert tier["so_far"]["compile"]["records"] == 1


def test_a_bucket_that_is_away_holds_up_no_plan(checkout: Checkout) -> None:
    checkout.edit("pipeline.yaml", "version: 1\n", "version: 1\ncache: gs://bucket/prefix\n")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        run = checkout.doit("plan", STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{mute.getsockname()[1]}")

    assert run.code == 0, run.text
    assert run.out.count("no forecast: the cache gs://bucket/prefix is not there") == 1
    assert run.seconds < 15


@pytest.fixture
def worker(tmp_path: Path, gcs_server: GcsServer) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "cpp", tmp_path / "worker", server=gcs_server)
    yield made
    remove_all(made)


def test_a_warm_compile_is_told_from_a_cold_one(worker: Checkout, gcs_server: GcsServer) -> None:
    assert steps(worker, "native")["compile:native"]["change"] == "compile cold"
    assert worker.doit("compile").code == 0
    assert newest(worker, "compile", "native")["change"] == "compile cold"

    remove_all(worker)
    fresh = make_checkout(worker.root, worker.root.parent / "fresh", worker.name, gcs_server)
    assert fresh.store is not None
    with_wheels: Any = fresh.plan()["native"]["forecast"]
    assert [step["task"] for step in with_wheels["steps"]] == ["image:native"], "the cache has the wheels"
    (wheels,) = with_wheels["pulls"]
    (blob,) = fresh.store.list("wheels/")
    assert wheels["bytes"] == blob.size

    fresh.store.delete(blob.name)
    told: Any = fresh.plan()["native"]["forecast"]
    assert told["steps"][0] == {
        "task": "compile:native",
        "change": "compile warm",
        "forecast": None,
        "on_machine": None,
    }
    (pull,) = told["pulls"]
    run = fresh.doit("compile")
    assert run.code == 0, run.text
    assert f"bytes from {pull['bytes']})" in run.out, "what was said is what was pulled"
    assert newest(fresh, "compile", "native")["change"] == "compile warm"
    assert newest(fresh, "compile", "native")["predicted"] is None, "a cold one tells nothing of it"
