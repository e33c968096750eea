"""verify reads an image's device code from its bits and holds it against what its GPUs were promised: on the real engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers.stores.directory import DirectoryStore
from tests.conftest import HERE
from tests.engine.conftest import Checkout, make_checkout, remove_all

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
