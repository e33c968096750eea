"""The generated build file, run for real: workers that know nothing, a bucket, pull requests, a worker that dies."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import HERE
from tests.engine.conftest import REPO, Checkout, docker, make_checkout, remove_all
from tests.engine.worker import Worker, substitute
from tests.gcs.harness import GcsServer

pytestmark = pytest.mark.timeout(300)  # the builder image, where nothing of it is cached

TRUSTED, PR = "ci/cloudbuild.yaml", "ci/cloudbuild-pr.yaml"
TIERS = ["pytorch-clean", "arr-base", "arr-training", "sister"]
NewWorker = Callable[[], Worker]


@pytest.fixture(scope="session")
def builder() -> Iterator[str]:
    """The image that the steps run in."""
    name = f"imagetiers-builder:test-{secrets.token_hex(4)}"
    command = ["docker", "buildx", "build", "--load", "--quiet", "--tag", name, "-f", "ci/builder/Dockerfile", "."]
    built = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    yield name
    with contextlib.suppress(subprocess.CalledProcessError):  # a container that is still going away holds it
        docker("rmi", "-f", name)


@pytest.fixture
def pipeline(tmp_path: Path, gcs_server: GcsServer) -> Iterator[Checkout]:
    """The tiny pipeline with a second child, the real ccache and a bucket, as somebody would commit it."""
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout", server=gcs_server)
    folder = made.root / "images" / "pytorch-clean"
    shutil.copytree(HERE / "repos" / "with-ccache", folder, dirs_exist_ok=True)
    shutil.copy(Path(sysconfig.get_path("scripts")) / "ccache", folder)
    made.edit("images/pytorch-clean/.image-manifest", "make-wheel\n", "make-wheel\ncc\nccache\n")
    made.edit("images/pytorch-clean/Dockerfile", "COPY make-wheel", "COPY cc ccache /usr/local/bin/\nCOPY make-wheel")
    made.edit("pipeline.yaml", "variants:", "  sister: {parent: pytorch-clean}\nvariants:")
    made.edit("pipeline.yaml", "max_size: 100M}", "max_size: 100M, checkpoint_minutes: 0.005}")
    shutil.copytree(made.root / "images" / "arr-base", made.root / "images" / "sister")
    assert made.doit("cloudbuild").code == 0
    yield made
    remove_all(made)


@pytest.fixture
def fresh(pipeline: Checkout, builder: str) -> Iterator[NewWorker]:
    """Give workers that have no image and no volume of an earlier one."""
    workers: list[Worker] = []

    def make() -> Worker:
        for worker in workers:
            worker.destroy()
        remove_all(pipeline)
        workers.append(Worker(pipeline.root, builder, pipeline.env))
        return workers[-1]

    yield make
    for worker in workers:
        worker.destroy()


def bucket(checkout: Checkout) -> set[tuple[str, int]]:
    assert checkout.store is not None
    return {(blob.name, blob.generation) for blob in checkout.store.list()}


def names(checkout: Checkout, prefix: str) -> list[str]:
    return [name for name, _ in bucket(checkout) if name.startswith(prefix)]


def test_the_builder_image_has_what_the_steps_need(builder: str) -> None:
    ask = "docker --version && docker buildx version && cd /tmp && python3 -c 'import imagetiers; print(imagetiers.__file__)'"
    said = docker("run", "--rm", "--entrypoint", "sh", builder, "-c", ask)

    assert "buildx" in said
    assert "/opt/imagetiers/imagetiers/" in said


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


def test_a_worker_that_dies_in_the_compile_is_gone_on_with(pipeline: Checkout, fresh: NewWorker) -> None:
    words = [f"word{number}" for number in range(30)]
    (pipeline.root / "images/pytorch-clean/source.txt").write_text(" ".join(words))
    worker = fresh()
    build = worker.start(pipeline.root / TRUSTED)
    end = time.monotonic() + 60
    while len(names(pipeline, "ccache/")) < 6:  # a head, an index, and some packs of checkpoints
        assert time.monotonic() < end, build.text
        assert not build.failed.is_set(), build.text
        time.sleep(0.1)
    worker.kill("compile-pytorch-clean")
    build.wait()
    assert build.status == "FAILURE"
    assert build.statuses["image-pytorch-clean"] == "CANCELLED"
    assert names(pipeline, "wheels/") == []

    resumed = fresh().run(pipeline.root / TRUSTED)
    assert resumed.status == "SUCCESS", resumed.text
    said = resumed.steps["compile-pytorch-clean"].log
    hits = int(said.split(" of 30 compiler calls")[0].split()[-1])
    assert 0 < hits < 30, said


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
