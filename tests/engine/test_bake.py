"""doit bake --print, and docker buildx bake of what it writes: the same files as in the images that doit builds."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers.layers.model import FileKind
from tests.conftest import HERE
from tests.engine.conftest import ASK, Checkout, docker, files_of, make_checkout, remove_all

FOLDERS = 8  # of five tiers, what two of them compile, and what one takes from
SECRET = "a bake of this would hold it"

# A tier of its own that says all of the rest: contexts, secrets, what bake would evaluate, a .dockerignore that is a file.
TOOLS = """\
  tools:
    bases: {BASE: "debian:trixie-slim"}
    labels: {what: "${NOT_EVALUATED}"}
    contexts: {training: {tier: arr-training}, shared: {path: //shared}, outside: {image: "debian:trixie-slim"}}
    args: {ODD: "a ${BASE} %{if} $${b} c"}
    secrets: {TOKEN: {env: TOKEN}}
    network: none
  made:
    parent: arr-base
    compile: {stage: builder, run: [sh, /greet], cache: none, outputs: [bin/]}
variants:
"""
TOOLS_DOCKERFILE = """\
ARG BASE
FROM ${BASE}
ARG ODD
COPY --from=training /config/ /config/
COPY --from=outside /etc/debian_version /outside
COPY --from=shared . /shared/
COPY . /here/
RUN echo "$ODD" >/odd && wc -l </proc/net/dev >/interfaces
RUN --network=default --mount=type=secret,id=TOKEN md5sum </run/secrets/TOKEN >/token
"""


FILES = """\
tiers:
  report:
    bases: {BASE: "debian:trixie-slim"}
    secrets: {default: {ssh: default}}
    output: {type: local, dest: out}
  archive:
    folder: report
    bases: {BASE: "debian:trixie-slim"}
    secrets: {default: {ssh: default}}
    output: {type: tar, dest: dist/report.tar}
"""
MADE_DOCKERFILE = """\
ARG PARENT
FROM ${PARENT} AS builder
COPY greet /
FROM scratch AS outputs
FROM ${PARENT}
COPY --from=outputs / /opt/
"""


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    made.edit("pipeline.yaml", "variants:\n", TOOLS)
    folder = made.root / "images" / "tools"
    (folder / "data").mkdir(parents=True)
    (folder / "Dockerfile").write_text(TOOLS_DOCKERFILE)
    (folder / "data" / "run").write_text("#!/bin/sh\n")
    (folder / "data" / "run").chmod(0o755)
    (folder / "data" / "link").symlink_to("run")
    (folder / ".dockerignore").write_text("data\n")
    (folder / ".image-manifest").write_text("data/\n.dockerignore\n")
    (made.root / "shared" / "deep").mkdir(parents=True)
    (made.root / "shared" / "deep" / "file").write_text("shared\n")
    compiling = made.root / "images" / "made"
    compiling.mkdir()
    (compiling / "Dockerfile").write_text(MADE_DOCKERFILE)
    (compiling / "greet").write_text("set -eu; cd $OUTPUTS_DIR; mkdir bin; cp /greeting bin; ln -s greeting bin/hi\n")
    (compiling / ".image-manifest").write_text("greet\n")
    yield Checkout(made.root, made.name, {"TOKEN": SECRET})
    remove_all(made)


def bake(checkout: Checkout, *args: str) -> None:
    """Write the bake file and build it, with none of the layers that are there."""
    written = checkout.doit("bake", "--print", "--out", "bake.json")
    assert (written.code, written.text) == (0, "")
    command = ["docker", "buildx", "bake", "--no-cache", "--file", "bake.json", *args]
    env = {**os.environ, **checkout.env}
    done = subprocess.run(command, cwd=checkout.root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_bake_builds_the_same_files_of(tools: Checkout) -> None:
    run = tools.doit("image")
    assert run.code == 0, run.text

    bake(tools)

    for tier, plan in tools.plan().items():
        ours, theirs = files_of(str(plan["ref"])), files_of(f"{tools.name}/{tier}:latest")
        assert len(ours) > 1000
        assert theirs == ours, tier
    assert files_of(f"{tools.name}/made:latest")["/opt/bin/hi"][4] == "greeting"
    built = files_of(f"{tools.name}/tools:latest")
    assert {path for path in built if path.startswith("/here")} == {
        "/here", "/here/.dockerignore", "/here/Dockerfile", "/here/data", "/here/data/link", "/here/data/run",
    }  # fmt: skip
    assert built["/here/data/run"][:2] == (FileKind.FILE, 0o755)
    shown = docker("run", "--rm", f"{tools.name}/tools:latest", "cat", "/odd", "/interfaces")
    assert shown.splitlines() == ["a ${BASE} %{if} $${b} c", "3"]  # two lines of headings, and the loopback


def test_what_it_says_of_the_images(tools: Checkout) -> None:
    """Their names and labels, but nothing by which a doit would take them for its own."""
    bake(tools, "pytorch-clean")

    inspected = json.loads(docker("image", "inspect", f"{tools.name}/pytorch-clean:latest"))[0]
    assert inspected["Config"]["Labels"] == {
        "org.opencontainers.image.title": f"{tools.name}/pytorch-clean",
        "org.opencontainers.image.version": "latest",
    }
    assert tools.refs() == {f"{tools.name}/pytorch-clean:latest"}  # neither the wheels nor the other tiers
    assert "tools" not in str(tools.doit("plan").err)
    assert SECRET not in (tools.root / "bake.json").read_text()
    assert tools.doit("image:pytorch-clean").executed == ["compile:pytorch-clean", "image:pytorch-clean"]


def test_an_edit_that_changes_neither_size_nor_time_is_built(tools: Checkout) -> None:
    bake(tools, "pytorch-clean")
    before = {path.name for path in (tools.root / ".imagetiers/bake/base").iterdir()}
    tools.edit("images/pytorch-clean/motd", "welcome", "goodbye")

    bake(tools, "pytorch-clean")

    after = {path.name for path in (tools.root / ".imagetiers/bake/base").iterdir()}
    assert len(before) == len(after) == FOLDERS
    assert {name.rpartition("-")[0] for name in before - after} == {"pytorch-clean"}
    shown = docker("run", "--rm", f"{tools.name}/pytorch-clean:latest", "cat", "/etc/motd")
    assert shown == (tools.root / "images/pytorch-clean/motd").read_text()


def test_what_makes_files_and_what_asks_an_agent(tmp_path: Path, agent: tuple[str, str]) -> None:
    """A folder, a tar, and a RUN with the agent, by bake: what doit makes, and where it makes it."""
    place, public = agent
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    (made.root / "pipeline.yaml").write_text(f"version: 1\nname: {made.name}\n{FILES}")
    folder = made.root / "images" / "report"
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        "ARG BASE\nFROM ${BASE} AS work\nRUN mkdir -p /made/deep && ln -s deep/keys /made/keys\n"
        f"RUN --mount=type=ssh {ASK} >/made/deep/keys # {public}\nFROM scratch\nCOPY --from=work /made/ /\n"
    )
    (folder / ".image-manifest").write_text("")
    made = Checkout(made.root, made.name, {"SSH_AUTH_SOCK": place})
    run = made.doit()
    assert run.code == 0, run.text
    ours = {path: (made.root / "out" / path).read_text() for path in ("deep/keys", "keys")}
    for path in ("out/deep/keys", "out/keys", "dist/report.tar"):
        (made.root / path).unlink()

    bake(made)

    assert ours["deep/keys"] == f"1 {public}"
    assert {path: (made.root / "out" / path).read_text() for path in ours} == ours
    assert (made.root / "out" / "keys").readlink() == Path("deep/keys")
    with tarfile.open(made.root / "dist" / "report.tar") as tar:
        assert sorted(tar.getnames()) == ["deep", "deep/keys", "keys"]
        kept = tar.extractfile("deep/keys")
        assert kept is not None
        assert kept.read().decode() == ours["deep/keys"]
    assert made.refs() == set()
    assert place not in (made.root / "bake.json").read_text()
