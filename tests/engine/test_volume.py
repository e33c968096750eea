"""What lies on a Docker volume reaches containers by the volume's name, with and without mounts of its folders."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers.adapters import docker as engine
from imagetiers.adapters.signals import SignalCancellation
from imagetiers.config.layout import Volume
from imagetiers.planning.containers import BindMount, Container
from tests.engine.conftest import Checkout, docker


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """A volume whose content this machine sees as well, as a step of Cloud Build does."""
    name, folder = f"test-{secrets.token_hex(4)}", tmp_path / "volume"
    folder.mkdir()
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={folder}", name)
    yield Volume(name, folder)
    docker("volume", "rm", "-f", name)


@pytest.mark.parametrize("since", [engine._SUBPATHS_SINCE, (99, 0)], ids=["folders", "whole volumes only"])
def test_a_container_writes_where_we_read(
    since: tuple[int, int], volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_SUBPATHS_SINCE", since)
    ccache = volume.path / "ccache" / "a.b"
    ccache.mkdir(parents=True)
    (volume.path / "other").touch()
    container = Container(
        name=f"{volume.name}-writer",
        image="debian:trixie-slim",
        argv=("sh", "-c", 'echo "$CCACHE_DIR" >"$CCACHE_DIR/word"; ls "$CCACHE_DIR/../../other"'),
        env={"CCACHE_DIR": "/ccache"},
        mounts=(BindMount(ccache, "/ccache"),),
    )
    real = engine.DockerEngine(SignalCancellation(), volume)
    started = real.start(container)
    try:
        sees_others = real.follow(started, lambda _: None) == 0
    finally:
        real.remove(started)

    whole = since == (99, 0)
    assert (ccache / "word").read_text().strip() == (str(ccache) if whole else "/ccache")
    assert sees_others == whole


def test_a_pipeline_on_a_volume(checkout: Checkout, volume: Volume) -> None:
    run = checkout.doit("image:pytorch-clean", IMAGETIERS_VOLUME=f"{volume.name}:{volume.path}")

    assert run.code == 0, run.text
    assert not (checkout.root / ".imagetiers" / "ccache").exists()
    words = [path for path in (volume.path / "ccache").rglob("*") if path.name == "six"]
    assert words
    assert list((volume.path / "wheels").glob("*/tiny-1-py3-none-any.whl"))


def test_a_volume_that_is_none_is_told(checkout: Checkout) -> None:
    run = checkout.doit("list", IMAGETIERS_VOLUME="/no/name")

    assert run.code == 3
    assert "IMAGETIERS_VOLUME=/no/name: is not NAME:/PATH" in run.err
