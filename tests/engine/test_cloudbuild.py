"""The generated build file, run for real, without a registry: workers that know nothing, a bucket, pull requests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import HERE
from tests.engine.conftest import Checkout, bucket, docker, make_checkout, names, remove_all, use_ccache
from tests.engine.worker import Worker, Workers, substitute
from tests.gcs.harness import GcsServer

TRUSTED, PR = "ci/cloudbuild.yaml", "ci/cloudbuild-pr.yaml"
TIERS = ["pytorch-clean", "arr-base", "arr-training", "sister"]
NewWorker = Callable[[], Worker]


@pytest.fixture
def pipeline(tmp_path: Path, gcs_server: GcsServer) -> Iterator[Checkout]:
    """The tiny pipeline with a second child, the real ccache and a bucket, as somebody would commit it."""
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout", server=gcs_server)
    use_ccache(made)
    made.edit("pipeline.yaml", "variants:", "  sister: {parent: pytorch-clean}\nvariants:")
    shutil.copytree(made.root / "images" / "arr-base", made.root / "images" / "sister")
    assert made.doit("cloudbuild").code == 0
    yield made
    remove_all(made)


@pytest.fixture
def fresh(pipeline: Checkout, builder: str) -> Iterator[NewWorker]:
    """Give workers that have no image and no volume of an earlier one."""
    workers = Workers(pipeline, builder)
    yield workers.fresh
    workers.destroy()


def test_the_builder_image_has_what_the_steps_need(builder: str) -> None:
    ask = "docker --version && docker buildx version && cd /tmp && python3 -c 'import imagetiers; print(imagetiers.__file__)'"
    said = docker("run", "--rm", "--entrypoint", "sh", builder, "-c", ask)

    assert "buildx" in said
    assert "/opt/venv/lib/" in said


def test_workers_that_know_nothing(pipeline: Checkout, fresh: NewWorker) -> None:
    worker = fresh()
    cold = worker.run(pipeline.root / TRUSTED)
    assert cold.status == "SUCCESS", cold.text
    steps = cold.steps
    assert "never built" in steps["plan"].log
    assert "0 of 6 compiler calls were hits" in steps["compile-pytorch-clean"].log
    assert all("built in" in steps[f"image-{tier}"].log for tier in TIERS)
    assert steps["image-pytorch-clean"].ended <= min(steps["image-arr-base"].began, steps["image-sister"].began)
    assert steps["image-sister"].began < steps["image-arr-base"].ended, "sisters run at the same time"
    assert steps["image-arr-base"].began < steps["image-sister"].ended
    assert len(names(pipeline, "wheels/")) == 1
    assert pipeline.containers() == []

    again = worker.run(pipeline.root / TRUSTED)
    assert again.status == "SUCCESS", again.text
    ran = [line for step in again.steps.values() for line in step.log.splitlines() if line.startswith(".  ")]
    assert ran == [], "this worker still has everything"

    warm = fresh().run(pipeline.root / TRUSTED)
    assert warm.status == "SUCCESS", warm.text
    assert "taken from gs://" in warm.steps["compile-pytorch-clean"].log
    assert "compiler calls" not in warm.text


def test_a_pull_request_leaves_the_cache_as_it_was(pipeline: Checkout, fresh: NewWorker, gcs_server: GcsServer) -> None:
    assert pipeline.doit("compile").code == 0  # what a trusted build has left
    before = bucket(pipeline)
    (pipeline.root / "images/pytorch-clean/source.txt").write_text("one two three four five six seven")

    worker = fresh()
    pulled = worker.run(pipeline.root / PR, _PR_NUMBER="7")
    assert pulled.status == "SUCCESS", pulled.text
    assert "6 of 7 compiler calls were hits" in pulled.text, "it reads the trusted cache"
    assert before <= bucket(pipeline)
    assert {name for name, _ in bucket(pipeline) - before if "untrusted" not in name} == set()
    assert names(pipeline, "untrusted/pr-7/wheels/")

    # As the account of pull requests has it: it may only read.
    before = bucket(pipeline)
    rules = [
        {"fault": "status", "op": op, "status": 403, "times": 0} for op in ("insert", "resumable", "delete", "patch")
    ]
    gcs_server.config(rules=rules)
    (pipeline.root / "images/pytorch-clean/source.txt").write_text("one two three four five six eight")
    refused = fresh().run(pipeline.root / PR, _PR_NUMBER="8")
    assert refused.status == "SUCCESS", refused.text
    assert "6 of 7 compiler calls were hits" in refused.text
    assert bucket(pipeline) == before
    gcs_server.config(clear=True)


def test_a_stale_file_stops_before_anything_runs(pipeline: Checkout, fresh: NewWorker) -> None:
    pipeline.edit("pipeline.yaml", "  sister: {parent: pytorch-clean}\n", "")

    build = fresh().run(pipeline.root / TRUSTED)

    assert build.status == "FAILURE"
    assert "hint: doit cloudbuild writes it" in build.steps["plan"].log
    assert "-- id: image-sister" in build.steps["plan"].log.replace("    ", "")
    assert build.statuses["compile-pytorch-clean"] == "CANCELLED"


def test_the_runner_itself(tmp_path: Path) -> None:
    def step(id_: str, script: str, **more: object) -> dict[str, object]:
        return {"id": id_, "name": "debian:trixie-slim", "entrypoint": "sh", "args": ["-c", script], **more}

    file = tmp_path / "build.yaml"
    worker = Worker(tmp_path, "debian:trixie-slim", {})
    try:
        shared = [{"name": "v", "path": "/v"}]
        write = step("write", "echo $_WHAT $$HOME >/workspace/said; echo x >/v/x", volumes=shared)
        read = step("read", "cat /workspace/said /v/x; exit 3", volumes=shared)
        file.write_text(
            yaml.safe_dump({"steps": [write, read, step("never", "true")], "substitutions": {"_WHAT": "hi"}})
        )
        build = worker.run(file)
        assert build.statuses == {"write": "SUCCESS", "read": "FAILURE", "never": "CANCELLED"}
        assert build.steps["read"].log == "hi /builder/home\nx\n"

        file.write_text(yaml.safe_dump({"steps": [step("slow", "sleep 60", timeout="5s")]}))
        assert worker.run(file).status == "TIMEOUT"
    finally:
        worker.destroy()
    with pytest.raises(KeyError):
        substitute("${_NOPE}", {})
