"""How layers are compressed: as pipeline.yaml says, where the engine does it when it builds, and elsewhere in words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.inputs.repository import load_repository
from imagetiers.operations.image import ensure_image
from imagetiers.planning.containers import BuildImage
from imagetiers.planning.make import make_plan
from imagetiers.services import EngineInfo, OnLine
from imagetiers.session import Session
from imagetiers.stores.directory import DirectoryStore
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services, write_pipeline, write_tier

TOLD = "image:app: its layers will be gzip: for `compression: zstd` the engine needs containerd's image store"


@dataclass
class Noting(FakeEngine):
    """An engine that notes what it was asked to build; it `compresses` what it exports or not."""

    compresses: bool = False
    builds: list[BuildImage] = field(default_factory=list)

    def info(self) -> EngineInfo:
        return replace(super().info(), compresses=self.compresses)

    def build(self, build: BuildImage, context: Iterable[bytes], on_line: OnLine, seconds: float | None = None) -> None:
        self.builds.append(build)
        super().build(build, context, on_line, seconds)


def built(folder: Path, compression: str | None, *, compresses: bool) -> tuple[str, str, list[str]]:
    """Build an image; return its key, how its files come to the engine, and what was said."""
    write_pipeline(
        folder, {"app": write_tier(folder, "app", compiles=False, checked=False, parent=None)}, registry=False
    )
    if compression is not None:
        file = folder / "pipeline.yaml"
        file.write_text(json.dumps({**json.loads(file.read_text()), "compression": compression}))
    layout, console, engine = Layout(folder), Shown(), Noting(FakeRegistry(), compresses=compresses)
    plan = make_plan(load_repository(layout, None), date(2026, 12, 1))
    session = Session(plan, layout, services(engine, DirectoryStore(folder / "cache"), console), Trust())
    ensure_image(session, plan.tiers["app"])
    (build,) = engine.builds
    (to,) = [word for word in build.argv() if word == "--load" or word.startswith("--output")]
    return plan.tiers["app"].key, to, console.lines


@pytest.mark.parametrize("compresses", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_gzip_is_what_every_engine_does(tmp_path: Path, compression: str | None, *, compresses: bool) -> None:
    _, to, lines = built(tmp_path, compression, compresses=compresses)
    assert to == "--load"
    assert TOLD not in lines


def test_zstd_is_asked_for_where_the_engine_compresses(tmp_path: Path) -> None:
    _, to, lines = built(tmp_path, "zstd", compresses=True)
    assert to == "--output=type=image,compression=zstd,oci-mediatypes=true,unpack=true"
    assert TOLD not in lines


def test_elsewhere_it_is_said_that_it_will_be_gzip(tmp_path: Path) -> None:
    _, to, lines = built(tmp_path, "zstd", compresses=False)
    assert to == "--load"
    assert TOLD in lines


def test_it_is_in_no_key(tmp_path: Path) -> None:
    keys = set()
    for name in ("gzip", "zstd"):
        (tmp_path / name).mkdir()
        keys.add(built(tmp_path / name, name, compresses=True)[0])
    assert len(keys) == 1
