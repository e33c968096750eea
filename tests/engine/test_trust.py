"""A pipeline that requires signatures, on the real engine: who has the key builds, who has none takes what it signed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from imagetiers.signing.statements import find_trailer, must_be_signed, new_key, purpose_of, read_claim
from imagetiers.stores.directory import DirectoryStore
from tests.engine.conftest import Checkout, forget_images, use_ccache

pytestmark = pytest.mark.engine


def lay_aside(checkout: Checkout) -> None:
    """Leave nothing on this machine but the cache: it is a fresh worker's then."""
    forget_images(checkout)
    for path in (checkout.root / ".imagetiers").iterdir():
        if path.name != "cache":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_signed_wheels_are_taken_and_forged_ones_compiled_again(checkout: Checkout, tmp_path: Path) -> None:
    use_ccache(checkout)
    private, public = new_key()
    (tmp_path / "key.pem").write_bytes(private)
    key = str(tmp_path / "key.pem")
    trust = {"require": True, "keys": [{"name": "main-2026", "ed25519": public}]}
    checkout.edit("pipeline.yaml", "version: 1\n", f"version: 1\ntrust: {json.dumps(trust)}\n")
    store = DirectoryStore(checkout.root / ".imagetiers" / "cache")

    built = checkout.doit(IMAGETIERS_SIGNING_KEY=key)
    assert built.code == 0, built.text
    shared = [blob.name for blob in store.list() if must_be_signed(blob.name)]
    assert {purpose_of(name) for name in shared} == {"wheels", "verdicts", "keys", "ccache-head"}
    for name in shared:
        data = store.read(name)[0]
        assert find_trailer(data[-4096:], name) if purpose_of(name) == "wheels" else read_claim(data, name), name

    lay_aside(checkout)
    taken = checkout.doit("compile:pytorch-clean")
    assert taken.code == 0, taken.text
    assert "taken from" in taken.out

    lay_aside(checkout)
    wheels = next(name for name in shared if purpose_of(name) == "wheels")
    data = store.read(wheels)[0]
    found = find_trailer(data[-4096:], wheels)
    assert found is not None
    store.write(wheels, data[: -found[0]])
    again = checkout.doit("compile:pytorch-clean", IMAGETIERS_SIGNING_KEY=key)
    assert again.code == 0, again.text
    assert "is not signed" in again.out
    assert "done in" in again.out
    assert find_trailer(store.read(wheels)[0][-4096:], wheels) is not None, "a signed one has taken its place"
