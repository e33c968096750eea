"""doit setup's last step: the image that Cloud Build's steps run in, built by the real engine and pushed to a real registry."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker
from tests.registry.server import RegistryServer


@pytest.fixture
def project(checkout: Checkout, registry_server: RegistryServer, tmp_path: Path) -> Iterator[Checkout]:
    """A pipeline at Google whose builder image lies in a registry on this machine, and what that is made of."""
    builder = f"{registry_server.host}/{checkout.name}/imagetiers-builder"
    path = checkout.root / "pipeline.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("registry:")]
    given = ["registry: us-central1-docker.pkg.dev/proj/images", f"cloudbuild: {{builder: '{builder}'}}"]
    path.write_text("\n".join([*lines, *given]) + "\n")
    file = checkout.root / "ci" / "builder" / "Dockerfile"
    file.parent.mkdir(parents=True)
    file.write_text("FROM debian:trixie-slim\nRUN true\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gcloud").write_text(f"#!{sys.executable}\n{(HERE / 'tasks' / 'gcloud.py').read_text()}")
    (programs / "gcloud").chmod(0o755)
    env = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "GCLOUD_PROJECT_FILE": str(tmp_path / "project")}
    yield replace(checkout, env={**checkout.env, **env})
    with contextlib.suppress(subprocess.CalledProcessError):  # not every test makes it
        docker("rmi", "-f", builder)


def test_the_builder_image_is_made_once(project: Checkout, registry_server: RegistryServer) -> None:
    name = f"{project.name}/imagetiers-builder"
    asked = project.doit("setup")
    assert asked.code == 0, asked.text
    assert f"$ docker push {registry_server.host}/{name}" in asked.out.splitlines()
    assert list(registry_server.tags(name)) == []

    done = project.doit("setup", "--yes")
    assert (done.code, "all of it is set up" in done.out) == (0, True), done.text
    assert list(registry_server.tags(name)) == ["latest"]
    again = project.doit("setup", "--yes")
    assert (again.code, "doit setup: nothing to do" in again.out) == (0, True), again.text
    assert f"{name} is there; for one of today's imagetiers: docker build" in again.out


def test_a_builder_image_that_cannot_be_made_fails_with_dockers_words(project: Checkout) -> None:
    (project.root / "ci" / "builder" / "Dockerfile").write_text("FROM debian:trixie-slim\nRUN exit 7\n")
    run = project.doit("setup", "--yes")
    assert (run.code, "ended with exit code 1: docker build" in run.err) == (1, True), run.text
    assert "exit code: 7" in run.out
    assert "Traceback" not in run.text
