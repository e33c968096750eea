"""Images of a chain that one run checks are read from the engine together, and only those."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from imagetiers.building.deadline import Deadline
from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.inputs.repository import load_repository
from imagetiers.operations.declared import read_image
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.stores.directory import DirectoryStore
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services, write_pipeline, write_tier
from tests.unit.layers.trees import saved_together, tar

LOWER, UPPER = tar({"etc/motd": b"lower"}), tar({"etc/motd": b"upper"})


@dataclass
class Saving(FakeEngine):
    """An engine that writes down what it saves; `aliases` are what it calls images instead of what they are asked for by."""

    saved: list[tuple[str, ...]] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)

    def layers(self, ref: str) -> tuple[str, ...]:
        layers = (LOWER, UPPER) if "child" in ref else (LOWER,)
        return tuple(f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers)

    def save(self, *refs: str) -> Iterator[bytes]:
        self.saved.append(refs)
        layers = {ref: [LOWER, UPPER] if "child" in ref else [LOWER] for ref in refs}
        yield saved_together({self.aliases.get(ref, ref): found for ref, found in layers.items()})


@pytest.fixture
def engine() -> Saving:
    return Saving(FakeRegistry())


@pytest.fixture
def given(tmp_path: Path, engine: Saving, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr("imagetiers.layers.archive._SMALL", 500)
    tiers = {
        name: write_tier(tmp_path, name, compiles=False, checked=False, parent=parent)
        for name, parent in (("base", None), ("child", "base"))
    }
    write_pipeline(tmp_path, tiers, registry=False)
    layout = Layout(tmp_path)
    plan = make_plan(load_repository(layout, None), date(2026, 11, 30))
    layout.work.mkdir()
    return Session(plan, layout, services(engine, DirectoryStore(tmp_path / "cache"), Shown()), Trust())


def motd(given: Session, name: str, image: str, along: dict[str, TierPlan]) -> bytes | None:
    found = read_image(given.plan.tiers[name], image, given, Deadline(None), along).tree.find("/etc/motd")
    assert found is not None
    return found.size.to_bytes() + found.hash


def test_a_child_that_was_read_along_is_not_saved_again(engine: Saving, given: Session) -> None:
    base, child = given.plan.tiers["base"], given.plan.tiers["child"]

    lower = motd(given, "base", "sha256:1", {"sha256:2": child})
    upper = motd(given, "child", "sha256:2", {})

    assert lower != upper
    assert engine.saved == [(base.ref, child.ref)]
    assert motd(given, "child", "sha256:3", {}) == upper, "another image of the same name"
    assert engine.saved[1:] == [(child.ref,)]


def test_an_engine_that_names_images_otherwise_is_asked_for_each_alone(engine: Saving, given: Session) -> None:
    child, base = given.plan.tiers["child"], given.plan.tiers["base"]
    engine.aliases = {base.ref: f"docker.io/{base.ref}", child.ref: f"docker.io/{child.ref}"}

    lower = motd(given, "base", "sha256:4", {"sha256:5": child})

    assert engine.saved == [(base.ref, child.ref), (base.ref,)]
    assert motd(given, "child", "sha256:5", {}) != lower
    assert engine.saved[2:] == [(child.ref,)]
