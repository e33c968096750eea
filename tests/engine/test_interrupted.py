"""Killed, interrupted, out of space, without Docker: nothing is lost, nothing is torn, and it is said what to do."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.engine.conftest import Checkout, docker, send
from tests.waiting import wait_until


def words(checkout: Checkout) -> set[str]:
    """Return what is compiled; what was killed before it had its name is not."""
    found = (path for path in (checkout.root / ".imagetiers" / "ccache").rglob("*") if path.is_file())
    return {path.name for path in found if ".tmp." not in path.name}


def wait_for_words(checkout: Checkout, count: int) -> None:
    wait_until(lambda: len(words(checkout)) >= count)


def finished_wheels(checkout: Checkout) -> list[Path]:
    return [path for path in (checkout.root / ".imagetiers" / "wheels").iterdir() if not path.name.startswith(".")]


def test_killed_in_the_middle_of_the_compile_it_goes_on(checkout: Checkout) -> None:
    process = checkout.start()
    container = checkout.wait_for_container(process)
    wait_for_words(checkout, 2)
    send(process, signal.SIGKILL)
    assert finished_wheels(checkout) == []
    assert docker("inspect", "-f", "{{.State.Running}}", container).strip() == "true"

    again = checkout.doit()

    assert again.code == 0, again.text
    assert "resumes the compile that is still running" in again.out
    assert "0 of 6 compiler calls were hits" in again.out, "each word was compiled once"
    assert checkout.containers() == []


def test_killed_together_with_its_container_it_goes_on_from_the_ccache(checkout: Checkout) -> None:
    process = checkout.start()
    container = checkout.wait_for_container(process)
    wait_for_words(checkout, 3)
    send(process, signal.SIGKILL)
    docker("kill", container)
    kept = len(words(checkout))

    again = checkout.doit()

    assert again.code == 0, again.text
    assert f"{kept} of 6 compiler calls were hits" in again.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_its_container_and_keeps_the_ccache(number: signal.Signals, checkout: Checkout) -> None:
    process = checkout.start()
    checkout.wait_for_container(process)
    wait_for_words(checkout, 2)
    run = send(process, number)

    assert run.code in {130, -signal.SIGINT}
    assert run.err.strip() == "interrupted: what is done is kept; run doit again to go on"
    assert checkout.containers() == []
    assert finished_wheels(checkout) == []
    kept = len(words(checkout))
    assert kept >= 2

    again = checkout.doit()
    assert again.code == 0, again.text
    assert f"{kept} of 6 compiler calls were hits" in again.out


def test_interrupted_in_parallel_mode_it_ends_too(checkout: Checkout) -> None:
    process = checkout.start("-n", "2")
    checkout.wait_for_container(process)
    wait_for_words(checkout, 2)
    run = send(process, signal.SIGINT)

    assert run.code != 0
    assert "Traceback" not in run.text
    assert checkout.containers() == []


def test_out_of_time_it_ends_its_container_and_goes_on_later(checkout: Checkout) -> None:
    source = checkout.root / "images/pytorch-clean/source.txt"
    source.write_text(" ".join(f"word{n}" for n in range(600)))  # more than any machine compiles in its time
    process = checkout.start("compile:pytorch-clean")
    checkout.wait_for_container(process)
    send(process, signal.SIGTERM)  # so much for the image of the compile stage
    for seconds in (2, 4, 8, 16, 32, 64):  # a busy machine needs longer to begin
        run = checkout.doit("compile:pytorch-clean", "--if-needed", "--timeout", f"{seconds}s")
        assert run.code == 1
        assert run.err.strip() == (
            f"compile:pytorch-clean: was not done after {seconds} s and was stopped\n"
            "  hint: run it again: it resumes with what ccache has kept; or give it more time"
        )
        if words(checkout):
            break
    assert checkout.containers() == []
    kept = len(words(checkout))
    assert 0 < kept < 600
    source.write_text(" ".join(f"word{n}" for n in range(kept + 3)))
    assert f"{kept} of {kept + 3} compiler calls were hits" in checkout.doit("image:pytorch-clean").out

    assert checkout.doit("clean", "compile").code == 0
    assert checkout.doit("compile:pytorch-clean", "--if-needed").executed == [], "the image needs no wheels any more"
    assert checkout.doit("compile:pytorch-clean", "--timeout", "1 h").code == 3


def test_without_a_daemon(checkout: Checkout) -> None:
    run = checkout.doit(DOCKER_HOST="unix:///nonexistent/docker.sock")

    assert run.code == 1
    assert run.err.strip() == (
        "docker: no Docker daemon is here (there is no socket)\n"
        "  hint: systemctl start docker, or let DOCKER_HOST name another; https://docs.docker.com/engine/install/"
    )
    assert "unknown" in checkout.doit("plan", DOCKER_HOST="unix:///nonexistent/docker.sock").out
    assert checkout.doit("list", DOCKER_HOST="unix:///nonexistent/docker.sock").code == 0


def test_with_a_daemon_that_refuses(checkout: Checkout) -> None:
    run = checkout.doit(DOCKER_HOST="tcp://127.0.0.1:1")

    assert run.code == 1
    assert "the Docker daemon does not run (connection refused)" in run.err
    assert "Traceback" not in run.text


def test_without_the_docker_command(checkout: Checkout, tmp_path: Path) -> None:
    run = checkout.doit("image", PATH=str(tmp_path))

    assert run.code == 1
    assert "docker: the docker command is not on the PATH\n  hint: " in run.err


def test_without_buildx(checkout: Checkout, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho \"docker: 'buildx' is not a docker command.\" >&2\nexit 1\n")
    fake.chmod(0o755)

    run = checkout.doit("image", PATH=f"{fake.parent}:{os.environ['PATH']}")

    assert run.code == 1
    assert "the buildx plugin is not installed" in run.err


def test_with_a_full_disk_of_the_daemon(checkout: Checkout) -> None:
    # BuildKit reports it in these words; the step prints them, since filling this machine's disk would hurt others.
    checkout.edit(
        "images/pytorch-clean/Dockerfile",
        "ENV GREETING",
        "RUN echo write /x: no space left on device; exit 1\nENV GREETING",
    )

    run = checkout.doit()

    assert run.code == 1
    assert "docker: the disk of the Docker daemon is full\n  hint: docker system df" in run.err


def test_with_a_full_disk_of_ours(checkout: Checkout) -> None:
    work = checkout.root / ".imagetiers"
    work.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(work)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        (work / "ballast").write_bytes(b"x" * 48 * 1024)
        run = checkout.doit()
    finally:
        subprocess.run(["umount", str(work)], check=True)

    assert run.code != 0
    assert "No space left on device" in run.text or "disk" in run.text
    assert "Traceback" not in run.text


def test_a_wrong_pipeline_is_exit_code_3_without_a_traceback(checkout: Checkout) -> None:
    checkout.edit("pipeline.yaml", "parent: arr-base", "parent: arr-bsae")

    run = checkout.doit()

    assert run.code == 3
    assert run.out == ""
    assert run.err.startswith("ERROR: one problem in the pipeline; nothing was run\npipeline.yaml:")
    assert run.err.rstrip().endswith("hint: did you mean 'arr-base'?")
