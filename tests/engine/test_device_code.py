"""verify reads an image's device code from its bits and holds it against what its GPUs were promised: on the real engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers.stores.directory import DirectoryStore
from tests.conftest import HERE
from tests.engine.conftest import Checkout, forget_images, make_checkout, remove_all, use_registry
from tests.registry.server import RegistryServer

FILES = HERE / "binaries" / "files"


@pytest.fixture
def extension(tmp_path: Path) -> Iterator[Checkout]:
    source = tmp_path / "source"
    shutil.copytree(HERE / "repos" / "device", source)
    shutil.copy(FILES / "lz4.so", source / "images/extension/extension.so")
    made = make_checkout(source, tmp_path / "checkout")
    yield made
    remove_all(made)


def test_what_is_promised_is_what_the_image_holds(extension: Checkout) -> None:
    checked = extension.doit()
    assert checked.code == 0, checked.text
    assert "/opt/extension.so holds sm_80, sm_90, compute_90: native: A100, H100" in checked.out
    assert "verify:extension: 1 checks passed" in checked.out
    cache = DirectoryStore(extension.root / ".imagetiers" / "cache")
    (verdict,) = cache.list("verdicts/")
    assert json.loads(cache.read(verdict.name)[0])["device_code"] == [
        {"path": "/opt/extension.so", "sass": ["8.0", "9.0"], "ptx": ["9.0"]}
    ]

    shutil.copy(FILES / "ampere.so", extension.root / "images/extension/extension.so")
    missing = extension.doit()
    assert missing.code == 1
    assert "/opt/extension.so holds sm_80: H100 (9.0): cannot run, but promised was: native" in missing.err

    shutil.copy(FILES / "stripped.so", extension.root / "images/extension/extension.so")
    stripped = extension.doit()
    assert stripped.code == 1
    assert "/opt/extension.so was compiled by nvcc and holds no device code" in stripped.err

    extension.edit("pipeline.yaml", 'trixie-slim"}', 'trixie-slim"}\n    verify: {device_code: {others: ["/opt/*"]}}')
    left = extension.doit()
    assert left.code == 1
    assert "compiled for 8.0, 9.0, and none of its libraries holds device code" in left.err
    extension.edit("pipeline.yaml", '["/opt/*"]', '["*"]')
    unjudged = extension.doit()
    assert unjudged.code == 0, unjudged.text
    assert "nothing was checked" in unjudged.out


def test_the_layers_of_an_image_that_only_the_registry_has_are_read_there(
    extension: Checkout, registry_server: RegistryServer, tmp_path: Path
) -> None:
    use_registry(extension, registry_server, tmp_path / "cache")
    pushed = extension.doit()
    assert pushed.code == 0, pushed.text
    forget_images(extension)
    cache = DirectoryStore(tmp_path / "cache")
    (verdict,) = cache.list("verdicts/")
    kept = cache.read(verdict.name)[0]
    cache.delete(verdict.name)
    shutil.rmtree(extension.root / ".imagetiers" / "state")

    checked = extension.doit("verify:extension", "--json", "-")
    assert checked.code == 0, checked.text
    assert "the registry's layers are read, and nothing is pulled" in checked.out
    assert extension.refs() == set()
    (again,) = cache.list("verdicts/")
    assert again.name == verdict.name
    assert json.loads(cache.read(again.name)[0])["device_code"] == json.loads(kept)["device_code"]

    status = extension.doit("status")
    assert "/opt/extension.so" in status.out
    assert "A100 (8.0)" in status.out
    document = json.loads(extension.doit("status", "--json", "-").out)
    (tier,) = document["tiers"]
    assert (tier["image"], tier["verified"]) == (None, True)
    assert tier["device_code"][0]["gpus"] == {"A100": "native", "H100": "native"}
