"""Nothing holds up a task longer than it was given: no cache, no registry, no other doit, no build, no check.

A finished compile loses nothing by it, and the exit code is that of a task that failed.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all, send, use_ccache
from tests.gcs.harness import GcsServer

NEVER = 3600


@pytest.fixture
def worker(tmp_path: Path, gcs_server: GcsServer) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "worker", server=gcs_server)
    use_ccache(made)
    yield made
    remove_all(made)


def with_the_builder_image(checkout: Checkout) -> None:
    """Build the image of the compile stage, and leave nothing else that a compile could find."""
    assert checkout.store is not None
    assert checkout.doit("compile:pytorch-clean").code == 0
    shutil.rmtree(checkout.root / ".imagetiers")
    for blob in list(checkout.store.list()):
        checkout.store.delete(blob.name)


def finished(checkout: Checkout) -> list[Path]:
    return list((checkout.root / ".imagetiers" / "wheels").glob("*/wheels.json"))


def test_a_finished_compile_is_there_although_no_upload_is_answered(worker: Checkout, gcs_server: GcsServer) -> None:
    with_the_builder_image(worker)
    gcs_server.fault("delay", "insert", seconds=NEVER, times=0)
    run = worker.doit("compile:pytorch-clean", "--timeout", "30s")
    assert run.code == 0, run.text
    assert len(finished(worker)) == 1
    assert "did not answer before the time was over" in run.out
    assert worker.containers() == []


def test_a_cache_that_answers_nothing_is_not_waited_for(worker: Checkout, gcs_server: GcsServer) -> None:
    with_the_builder_image(worker)
    gcs_server.fault("delay", "download", seconds=NEVER, times=0)
    run = worker.doit("compile:pytorch-clean", "--timeout", "6s")
    assert run.code == 1, run.text
    assert "was not done after 6 s and was stopped" in run.err
    assert worker.containers() == []


def ends_in_time(checkout: Checkout, *args: str, limit: int = 6) -> str:
    """Run a task that cannot be done within `limit` seconds; return what it says."""
    run = checkout.doit(*args, "--timeout", f"{limit}s")
    assert run.code == 1, run.text
    assert f"was not done after {limit} s and was stopped" in run.err
    assert run.seconds < limit + 15, "doit's own start, and the end of what ran, are not waited for longer"
    assert checkout.containers() == []
    return run.err


@pytest.fixture
def lock(checkout: Checkout) -> Iterator[Path]:
    """The lock of the tiny pipeline's compile, held by somebody."""
    compiled = checkout.plan()["pytorch-clean"]["compile"]
    assert isinstance(compiled, dict)
    key = compiled["key"]
    path = checkout.root / ".imagetiers" / "locks" / f"compile-{key}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("process 7, compile:pytorch-clean\n")
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def test_a_compile_of_another_doit_is_not_waited_for_longer(checkout: Checkout, lock: Path) -> None:
    assert lock.exists()
    said = ends_in_time(checkout, "compile:pytorch-clean")
    assert "stopped: it waited for process 7, compile:pytorch-clean until the time was over" in said


@pytest.mark.parametrize("mode", [(), ("-n", "2")], ids=["alone", "in threads"])
def test_waiting_for_another_doit_ends_when_it_is_asked_to(
    checkout: Checkout, lock: Path, mode: tuple[str, ...]
) -> None:
    assert lock.exists()
    process = checkout.start("run", *mode, "compile:pytorch-clean")
    assert process.stdout is not None
    for line in process.stdout:
        if "waiting for process 7" in line:
            break
    run = send(process, signal.SIGTERM)  # the lock is never given back: whoever waited for it would not end at all
    assert run.code in {130, -signal.SIGINT}


def test_a_builder_image_that_takes_too_long_is_ended(checkout: Checkout) -> None:
    checkout.edit("images/pytorch-clean/Dockerfile", "ARG GREETING\n", "ARG GREETING\nRUN sleep 3000\n")
    said = ends_in_time(checkout, "compile:pytorch-clean", limit=10)
    assert said.startswith("compile:pytorch-clean: builder image: was not done")
    assert not any("sleep 3000" in line for line in docker_processes())


def docker_processes() -> list[str]:
    """What runs on this machine, in containers and builds, too."""
    texts = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [text for text in texts if text.startswith(("sleep", "/bin/sh -c sleep"))]


def test_a_registry_that_does_not_answer_is_not_waited_for_longer(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        checkout.edit("pipeline.yaml", "version: 1\n", f"version: 1\nregistry: {host}/x\n")
        ends_in_time(checkout, "compile:pytorch-clean", limit=4)


@pytest.mark.parametrize("option", [True, False], ids=["option", "pipeline.yaml"])
def test_a_check_that_hangs_is_ended(checkout: Checkout, *, option: bool) -> None:
    assert checkout.doit("image:pytorch-clean").code == 0
    script = "images/pytorch-clean/verify.py"
    (checkout.root / script).write_text("echo ok one; echo looking; sleep 3000; echo ok two\n")
    if option:
        said = ends_in_time(checkout, "verify:pytorch-clean", limit=5)
    else:
        checkout.edit(
            "pipeline.yaml", "verify: {params: {without: [gcc]}}", "verify: {params: {without: [gcc]}, timeout: 5s}"
        )
        run = checkout.doit("verify:pytorch-clean")
        assert (run.code, run.seconds < 25) == (1, True)
        said = run.err
    assert f"was not done after 5 s and was stopped in {script}; its last lines:\n    ok one\n    looking\n" in said
    assert "hint: if it has to take so long: --timeout, or `verify: {timeout: ...}`" in said
    assert checkout.containers() == []
    assert docker("images", "--format", "{{.Repository}}:{{.Tag}}").count(f"{checkout.name}/pytorch-clean:latest") == 0


def test_what_is_no_duration_is_told(checkout: Checkout) -> None:
    for task in ("compile:pytorch-clean", "verify:pytorch-clean"):
        run = checkout.doit(task, "--timeout", "soon")
        assert run.code == 3
        assert "--timeout: 'soon' is not a duration" in run.err
