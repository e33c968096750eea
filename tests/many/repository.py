"""Pipelines of any number of tiers, in the shapes that occur, and the state of a machine on which all of them are built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.labels import Label
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan
from imagetiers.repository_file import Reads
from imagetiers.state.plan_memory import QUIET, Remembered, recall_hashes, remember
from tests.conftest import HERE

FILES = 10
DEEP = 60  # ancestors of a chain: pipeline.yaml may have no more than an image has layers


def _chain(number: int) -> int | None:
    """Chains beside each other: each as deep as they may be."""
    return None if number % DEEP == 0 else number - 1


def _tree(number: int) -> int | None:
    """One tree, three children each."""
    return None if number == 0 else (number - 1) // 3


def _fans(number: int) -> int | None:
    """A root with a hundred children, and again."""
    return None if number % 101 == 0 else number - number % 101


def _diamonds(number: int) -> int | None:
    """Two tiers beside each other on one, a third on the first of them, which takes files of the second."""
    return None if number % 4 == 0 else number - number % 4 + (1 if number % 4 == 3 else 0)


SHAPES: dict[str, Callable[[int], int | None]] = {
    "tree": _tree,
    "chain": _chain,
    "fans": _fans,
    "diamonds": _diamonds,
}


def make_repository(root: Path, tiers: int, shape: str = "tree") -> Layout:
    """Write a pipeline of so many tiers with ten files each, and a check of the size alone."""
    lines = ["version: 1", "name: many", "tiers:"]
    for number in range(tiers):
        name, parent = f"t{number:05}", SHAPES[shape](number)
        folder = root / "images" / name
        (folder / "data").mkdir(parents=True)
        if parent is None:
            lines.append(f"  {name}: {{bases: {{BASE: 'debian:trixie-slim'}}, budget: {{size: 1GB}}}}")
            dockerfile = f"ARG BASE\nFROM ${{BASE}}\nCOPY data /{name}/\n"
        else:
            lines.append(f"  {name}: {{parent: t{parent:05}, budget: {{size: 1GB}}}}")
            dockerfile = f"ARG PARENT\nFROM ${{PARENT}}\nCOPY data /{name}/\n"
        manifest = ["data/"]
        if shape == "diamonds" and number % 4 == 3:
            beside = f"images/t{number - 1:05}/data/0"
            manifest.append(f"//{beside}")
            dockerfile += f"COPY {beside} /beside\n"
        (folder / "Dockerfile").write_text(dockerfile)
        (folder / ".image-manifest").write_text("".join(f"{line}\n" for line in manifest))
        for file in range(FILES):
            (folder / "data" / str(file)).write_text(f"file {file} of tier {number}\n" * 20)
    (root / "pipeline.yaml").write_text("\n".join(lines) + "\n")
    shutil.copy(HERE.parent / "dodo.py", root / "dodo.py")
    return Layout(root)


def plan_of(layout: Layout) -> Plan:
    """Return the plan."""
    return make_plan(load_repository(layout, None), datetime.now(tz=UTC).date())


def remember_plan(layout: Layout, variant: str | None = None) -> Plan:
    """Read, and remember the plan as a doit does that begins once everything is old enough; return it."""
    _let_the_clock_tick(layout.root)
    reads, today = Reads(recall_hashes(layout)), datetime.now(tz=UTC).date()
    repository = load_repository(layout, variant, reads)
    found = Remembered(make_plan(repository, today), repository.variants)
    reads.began += QUIET
    remember(layout, variant, today, found, reads)
    return found.plan


def _let_the_clock_tick(root: Path) -> None:
    """Wait until a change has another time than all before: the clock of most file systems ticks every few milliseconds."""
    probe = root.parent / "probe"
    probe.write_text("")
    first = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == first:
        probe.write_text("")


def images_json(plan: Plan) -> bytes:
    """Return what a daemon answers that holds the images of all tiers, tagged."""
    return json.dumps([_image(number, plan, name) for number, name in enumerate(plan.tiers)]).encode()


def mark_verified(layout: Layout, plan: Plan) -> None:
    """Leave the marks that these images have passed their checks."""
    folder = layout.state / "verdicts"
    folder.mkdir(parents=True, exist_ok=True)
    for number, tier in enumerate(plan.tiers.values()):
        (folder / f"{number:064}.{tier.verify.check}").touch()


def _image(number: int, plan: Plan, name: str) -> dict[str, Any]:
    tier = plan.tiers[name]
    return {
        "Id": f"sha256:{number:064}",
        "RepoTags": [tier.ref, *tier.tags],
        "RepoDigests": [],
        "Created": 1_790_000_000,
        "Size": 80_000_000,
        "Labels": {
            Label.KEY: tier.key,
            Label.TIER: name,
            Label.PIPELINE: plan.pipeline.name,
            Label.VARIANT: "",
            Label.TRUST: "trusted",
            Label.KEY_DOCUMENT: tier.key_document.json(),
        },
    }
