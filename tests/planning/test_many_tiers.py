"""Twice the tiers cost twice as much: held by the calls that are made, which are the same on every machine."""

from __future__ import annotations

import cProfile
import json
import pstats
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from imagetiers.config.loader import load_config
from imagetiers.inputs.manifest import read_manifest
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.decide import decide, tier_decisions
from imagetiers.planning.labels import Label
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import ImageInfo, ObservedState
from imagetiers.planning.plan import Plan
from tests.many.repository import SHAPES, images_json, make_repository

DAY = date(2026, 11, 21)
FEW = 120  # whole chains and diamonds
MOST = 2.1


def calls(work: Callable[[], object]) -> int:
    profile = cProfile.Profile()
    profile.runcall(work)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]  # typeshed has no counts


def observed(plan: Plan) -> ObservedState:
    """Return what is seen where the images of all tiers are, but under other keys."""
    images: dict[str, ImageInfo] = {}
    for image in json.loads(images_json(plan)):
        labels = image["Labels"]
        info = ImageInfo(
            image["Id"],
            tuple(image["RepoTags"]),
            labels[Label.PIPELINE],
            labels[Label.VARIANT],
            labels[Label.TIER],
            "0" * 64,
            image["Created"],
            image["Size"],
            labels[Label.KEY_DOCUMENT],
            labels[Label.TRUST],
        )
        images |= dict.fromkeys(info.refs, info)
    return ObservedState(images)


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_tiers_cost_twice_as_much(shape: str, tmp_path: Path) -> None:
    counts: dict[str, list[int]] = {}

    def count(what: str, work: Callable[[], object]) -> None:
        counts.setdefault(what, []).append(calls(work))

    for tiers in (FEW, 2 * FEW):
        layout = make_repository(tmp_path / str(tiers), tiers, shape)
        repository = load_repository(layout, None)
        plan = make_plan(repository, DAY)
        rebuilt, nothing = observed(plan), ObservedState()
        count("read", lambda layout=layout: load_repository(layout, None))  # type: ignore[misc]
        count("plan", lambda repository=repository: make_plan(repository, DAY))  # type: ignore[misc]
        for name, seen in (("nothing there", nothing), ("all changed", rebuilt)):
            decisions = decide(plan, seen)
            count(f"decide, {name}", lambda plan=plan, seen=seen: decide(plan, seen))  # type: ignore[misc]
            count(
                f"tiers, {name}",
                lambda plan=plan, seen=seen, decisions=decisions: tier_decisions(plan, seen, decisions),  # type: ignore[misc]
            )

    assert {what: few for what, (few, twice) in counts.items() if twice > MOST * few} == {}


def test_a_manifest_that_names_each_file_is_looked_up() -> None:
    """Lines times files would be billions of comparisons."""

    def count(files: int) -> int:
        paths = [f"data/{number:05}" for number in range(files)]
        lines = list(read_manifest("".join(f"{path}\n" for path in paths).encode(), "m", []))
        return calls(lambda: [line.among(paths) for line in lines])

    assert count(2000) <= MOST * count(1000)


def test_tiers_below_a_circle_are_walked_once(tmp_path: Path) -> None:
    def count(tiers: int) -> int:
        layout = make_repository(tmp_path / str(tiers), 2)
        entries = "".join(f"  c{n}: {{parent: c{n - 1}}}\n" for n in range(1, tiers))
        layout.pipeline.write_text(f"version: 1\nname: many\ntiers:\n  c0: {{parent: c{tiers - 1}}}\n{entries}")
        return calls(lambda: load_config(layout, None))

    assert count(400) <= MOST * count(200)
