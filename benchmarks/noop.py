"""How long a doit takes that has nothing to do, beside `docker buildx bake` and an empty doit on the same machine.

    python -m benchmarks.noop [--runs 15] [--to FILE]

Makes and builds four tiers, each of the one before, and the same four images with bake: needs Docker, and debian:trixie-slim.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pairs import Command, measure
from benchmarks.session import ROOT, recording
from tests.many.repository import make_repository

TIERS = 4
CASE = f"{TIERS} tiers in a chain, nothing to do"
OURS, EMPTY, BAKE = "doit", "doit with one empty task", f"docker buildx bake, {TIERS} cached targets"


def bake_file(folder: Path) -> None:
    """Write a bake file of four targets in a chain: what a user of bake has in the place of the four tiers."""
    (folder / "Dockerfile").write_text("ARG PARENT\nFROM ${PARENT}\nCOPY Dockerfile /\n")
    target: dict[str, dict[str, object]] = {}
    for number in range(TIERS):
        contexts = {"parent": f"target:t{number - 1}"} if number else {}
        base = "parent" if number else "debian:trixie-slim"
        target[f"t{number}"] = {
            "context": ".",
            "args": {"PARENT": base},
            "contexts": contexts,
            "tags": [f"bench-bake/t{number}"],
        }
    file = {"group": {"default": {"targets": list(target)}}, "target": target}
    (folder / "docker-bake.json").write_text(json.dumps(file))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--to", type=Path)
    given = parser.parse_args()
    doit = (sys.executable, "-m", "doit")
    with tempfile.TemporaryDirectory() as temporary:
        baked, empty = Path(temporary) / "baked", Path(temporary) / "empty"
        layout = make_repository(Path(temporary) / "tiers", TIERS, "chain")
        for folder in (baked, empty):
            folder.mkdir()
        bake_file(baked)
        (empty / "dodo.py").write_text("def task_empty():\n    return {'actions': None}\n")
        env = {"PYTHONPATH": str(ROOT)}
        bake = ("docker", "buildx", "bake", "--load")
        commands = [
            Command(EMPTY, doit, empty, env),
            Command(OURS, doit, layout.root, env),
            Command(BAKE, bake, baked),
        ]
        subprocess.run(doit, cwd=layout.root, check=True, capture_output=True, env=os.environ | env)
        time.sleep(2.5)  # nothing is remembered of what is younger than two seconds
        with recording("noop", given.to) as measured:
            measured.extend(measure(CASE, commands, given.runs))
        subprocess.run(
            (*doit, "clean", "image"), cwd=layout.root, check=False, capture_output=True, env=os.environ | env
        )
        names = [f"bench-bake/t{number}" for number in range(TIERS)]
        subprocess.run(["docker", "rmi", *names], check=False, capture_output=True)


if __name__ == "__main__":
    main()
