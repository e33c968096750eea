"""A small matrix with children, variables and a group, built on the real engine; and once more from what it comes to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import Checkout, docker, make_checkout, remove_all

PIPELINE = """\
version: 1
name: matrix
variables:
  greeting: {default: hello, env: TEST_MATRIX_GREETING}
tiers:
  server:
    matrix: {release: ["1.0", "2.0"], flavor: [slim, debug], exclude: [{release: "1.0", flavor: debug}]}
    bases: {BASE: "debian:trixie-slim"}
    args: {RELEASE: $(matrix.release), FLAVOR: $(matrix.flavor), GREETING: $(var.greeting)}
    verify: {files: {/cell: {contains: "$(matrix.release) $(matrix.flavor)"}}}
  app: {parent: server, tag: $(matrix.flavor)}
  test: {extends: app, folder: app, dockerfile: Dockerfile.test, matrix: {release: ["2.0"]}}
groups:
  apps: [app]
"""
SERVER = """\
ARG BASE
FROM ${BASE}
ARG RELEASE
ARG FLAVOR
ARG GREETING
RUN echo "$RELEASE $FLAVOR $GREETING" > /cell
"""
APP = """\
ARG PARENT
FROM ${PARENT}
COPY . /app
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    source = tmp_path / "source"
    for path, text in {
        "pipeline.yaml": PIPELINE,
        "images/server/Dockerfile": SERVER,
        "images/server/.image-manifest": "",
        "images/app/Dockerfile": APP,
        "images/app/Dockerfile.test": f"{APP}RUN test -e /app/file && touch /tested\n",
        "images/app/.image-manifest": "**\n",
        "images/app/file": "a file",
    }.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    made = make_checkout(source, tmp_path / "checkout")
    yield made
    remove_all(made)


def test_a_matrix_is_built_with_its_children(checkout: Checkout) -> None:
    def says(image: str, *command: str) -> str:
        return docker("run", "--rm", "--network", "none", f"{checkout.name}/{image}", *command)

    apps = checkout.doit("apps")
    assert apps.code == 0, apps.text
    cells = ["1.0-slim", "2.0-slim", "2.0-debug"]
    assert [task for task in apps.executed if task.startswith("image:")] == [
        f"image:{tier}-{cell}" for tier in ("server", "app") for cell in cells
    ]
    assert [line for line in apps.out.splitlines() if "checks passed" in line] == [
        f"verify:app-{cell}: 1 checks passed" for cell in cells
    ]
    assert says("app-2.0-debug:debug", "sh", "-c", "cat /cell; ls /app") == "2.0 debug hello\nDockerfile\nfile\n"

    # All of it: the tests are made, and nothing twice.
    whole = checkout.doit()
    assert whole.code == 0, whole.text
    assert [task for task in whole.executed if task.startswith("image:")] == [
        "image:test-2.0-slim",
        "image:test-2.0-debug",
    ]
    assert says("test-2.0-slim:slim", "ls", "/app", "/tested") == "/tested\n\n/app:\nDockerfile\nfile\n"
    assert checkout.doit().executed == []

    # Another value is another image, and only where it is used.
    other = checkout.doit("greeting=bye", "image:app-1.0-slim")
    assert [task for task in other.executed if task.startswith("image:")] == [
        "image:server-1.0-slim",
        "image:app-1.0-slim",
    ]
    assert checkout.doit("greeting=bye", "image:app-1.0-slim").executed == []
