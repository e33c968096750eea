"""Layers in zstd, where the engine compresses what it builds; elsewhere gzip, and a word of it. Both kinds are used alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, forget_images, make_checkout, remove_all, use_registry
from tests.registry.server import RegistryServer

OCI = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture
def compresses() -> bool:
    """Whether the engine has containerd's image store."""
    return "io.containerd.snapshotter.v1" in docker("info", "--format={{json .DriverStatus}}")


@pytest.fixture
def worker(tmp_path: Path, registry_server: RegistryServer) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    use_registry(made, registry_server, tmp_path / "cache")
    made.edit("pipeline.yaml", "version: 1\n", "version: 1\ncompression: zstd\n")
    yield made
    remove_all(made)


def test_what_was_pushed_in_zstd_is_pulled_and_checked(
    worker: Checkout, registry_server: RegistryServer, *, compresses: bool
) -> None:
    first = worker.doit()
    assert first.code == 0, first.text
    told = "its layers will be gzip: for `compression: zstd` the engine needs containerd's image store"
    assert (told in first.out) is not compresses

    base = layers(registry_server, "base/debian", "trixie-slim")
    own = [layer for layer in layers(registry_server, f"{worker.name}/arr-training", "latest") if layer not in base]
    assert len(own) > 1
    assert {kind for kind, _ in own} == ({f"{OCI}+zstd"} if compresses else {kind for kind, _ in base})

    forget_images(worker)
    again = worker.doit("pull:arr-training", "verify:arr-training", "--rebuild")
    assert again.code == 0, again.text
    assert worker.doit().executed == []


def layers(server: RegistryServer, repository: str, tag: str) -> list[tuple[str, str]]:
    """Return the media types and digests of an image's layers."""
    status, _, body = server.request("GET", f"/v2/{repository}/manifests/{tag}")
    assert status == 200
    return [(layer["mediaType"], layer["digest"]) for layer in json.loads(body)["layers"]]
