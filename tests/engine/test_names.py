"""What an image is called: a repository of its own, several tags, and labels, in a registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import Checkout, docker, make_checkout, remove_all, use_registry
from tests.registry.server import RegistryServer

PIPELINE = """\
version: 1
name: names
tiers:
  app:
    bases: {BASE: "debian:trixie-slim"}
    tag: "1.2"
    tags: ["1", newest]
    image: HOST/own/NAME
    labels: {org.opencontainers.image.source: "https://code.example/app", org.opencontainers.image.title: App}
  slim: {parent: app, tag: 1.2-slim, image: HOST/own/NAME}
"""


@pytest.fixture
def names(tmp_path: Path, registry_server: RegistryServer) -> Iterator[Checkout]:
    source = tmp_path / "source"
    for tier, base in (("app", "BASE"), ("slim", "PARENT")):
        folder = source / "images" / tier
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(f"ARG {base}\nFROM ${{{base}}}\nRUN echo {tier} >/{tier}\n")
        (folder / ".image-manifest").write_text("")
    (source / "pipeline.yaml").write_text(PIPELINE.replace("HOST", registry_server.host))
    made = make_checkout(source, tmp_path / "checkout")
    pipeline = made.root / "pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace("own/NAME", f"own/{made.name}/app"))
    use_registry(made, registry_server)
    yield made
    remove_all(made)


def test_all_tags_move_in_the_repository_that_two_tiers_share(names: Checkout, registry_server: RegistryServer) -> None:
    run = names.doit()
    assert run.code == 0, run.text
    repository = f"own/{names.name}/app"
    digests = {tag: registry_server.digest(repository, tag) for tag in ("1.2", "1", "newest", "1.2-slim")}
    assert digests["1.2"] is not None
    assert digests["1.2"] == digests["1"] == digests["newest"] != digests["1.2-slim"]
    plan = names.plan()
    assert registry_server.digest(repository, str(plan["app"]["key"])[:12]) == digests["1.2"]
    assert registry_server.digest(f"{names.name}/app", "1.2") is None, "nothing is where it would be without image:"
    assert names.doit().executed == []

    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", str(plan["app"]["ref"])))
    assert labels["org.opencontainers.image.source"] == "https://code.example/app"
    assert labels["org.opencontainers.image.title"] == "App"
    assert labels["dev.imagetiers.key"] == plan["app"]["key"]

    names.edit("pipeline.yaml", '"1", newest', '"1", newer')
    moved = names.doit()
    assert [task.partition(":")[0] for task in moved.executed] == ["verify", "push"], "a tag more builds nothing"
    assert registry_server.digest(repository, "newer") == digests["1.2"]

    names.edit("pipeline.yaml", "code.example/app", "code.example/other")
    planned = names.doit("plan")
    assert "label org.opencontainers.image.source" in planned.out, planned.out
    assert [task for task in names.doit().executed if task.startswith("image:")] == ["image:app", "image:slim"]
    assert registry_server.digest(repository, "newest") == digests["1.2"], "what is no longer among the tags stays"
    assert registry_server.digest(repository, "1") != digests["1.2"]
