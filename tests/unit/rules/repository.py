"""Repositories for the rules: tiers from the texts of their Dockerfiles, with some files to copy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan

DAY = date(2026, 11, 21)
FILES = ("app/main.py", "app/util.py", "app/install", "requirements.txt", "wheels/a.whl", "wheels/b.whl")
NONE: Mapping[str, str] = {}


def images(dockerfile: str) -> list[str]:
    """Return the outside images of a Dockerfile that has no variables in its FROM lines."""
    froms = [line.split() for line in dockerfile.splitlines() if line.startswith("FROM ")]
    stages = {words[3] for words in froms if len(words) == 4}
    return sorted({words[1] for words in froms} - stages - {"scratch", "${BASE}", "${PARENT}"})


def write(
    root: Path,
    tiers: Mapping[str, str],
    *,
    parents: Mapping[str, str] = NONE,
    more: Mapping[str, str] = NONE,
    top: str = "",
) -> None:
    lines = ["version: 1", "name: ruled", *([top] if top else []), "tiers:"]
    for name, dockerfile in tiers.items():
        folder = root / "images" / name
        for file in FILES:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(f"{file}\n")
        (folder / ".image-manifest").write_text("**\n")
        (folder / "Dockerfile").write_text(dockerfile)
        bases = {"BASE": "debian:trixie-slim"} if "${BASE}" in dockerfile else {}
        bases |= {f"BASE_{number}": image for number, image in enumerate(images(dockerfile))}
        shown = ", ".join(f'{key}: "{image}"' for key, image in bases.items())
        origin = f"parent: {parents[name]}" if name in parents else f"bases: {{{shown}}}"
        lines.append(f"  {name}: {{{', '.join(filter(None, (origin, more.get(name, ''))))}}}")
    (root / "pipeline.yaml").write_text("\n".join(lines) + "\n")


def plan_of(
    root: Path,
    tiers: Mapping[str, str],
    *,
    parents: Mapping[str, str] = NONE,
    more: Mapping[str, str] = NONE,
    top: str = "",
) -> Plan:
    write(root, tiers, parents=parents, more=more, top=top)
    return make_plan(load_repository(Layout(root), None), DAY)
