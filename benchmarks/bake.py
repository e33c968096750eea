"""How long bake takes of a bake file, and doit of what it is ported to: with nothing to do, and after an edit.

    python -m benchmarks.bake [--runs 7] [--to FILE]

Ports the bake files of tests/bake/files, and builds all of each with both: needs Docker with buildx, and debian:trixie-slim.
doit checks, and looks whether the image of each key is there; bake asks BuildKit for each layer.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pairs import Command, measure
from benchmarks.session import ROOT, recording

OURS, BAKE = "doit", "docker buildx bake"
NOTHING, EDIT = "nothing to do", "one edit"
# By case: what is built, and the file that is edited.
CASES = {
    "a language's official images": ("language", ("slim", "full"), "src/manual.txt"),
    "a service, its tests and a linter": ("service", ("service", "lint", "test"), "app/serve"),
    "images for models, a matrix": ("models", ("base", "framework", "serve", "train"), "serve/server"),
}
_NAME = "bench-bake"
_INIT = "import sys; from imagetiers.cli import main; sys.exit(main())"
_EDITED = 'echo >>"$0"; exec "$@"'


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--to", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, recording("bake", given.to) as measured:
        for case, (name, targets, edited) in CASES.items():
            baked, ported = Path(temporary) / "baked" / name, Path(temporary) / "ported" / name
            # Names of their own: who finds a tag on the other's image has something to do.
            env, baking = _names(f"{_NAME}/ported-{name}"), _names(f"{_NAME}/baked-{name}")
            for folder in (baked, ported):
                shutil.copytree(ROOT / "tests" / "bake" / "files" / name, folder)
            doit = (sys.executable, "-m", "doit")
            bake = ("docker", "buildx", "bake", *targets)
            _quietly((sys.executable, "-c", _INIT, "init", "--from-bake", "docker-bake.hcl"), ported, env)
            _quietly(doit, ported, env)
            time.sleep(2.5)  # nothing is remembered of what is younger than two seconds
            commands = [Command(OURS, doit, ported, env), Command(BAKE, bake, baked, baking)]
            measured.extend(measure(f"{case}: {NOTHING}", commands, given.runs))
            edits = [
                Command(each.name, ("sh", "-c", _EDITED, edited, *each.argv), each.folder, each.env)
                for each in commands
            ]
            measured.extend(measure(f"{case}: {EDIT}", edits, given.runs))
        _remove()


def _names(place: str) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "REGISTRY": place, "REPOSITORY": f"{place}/image"}


def _remove() -> None:
    listed = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"{_NAME}/*/*"],
        capture_output=True,
        text=True,
        check=True,
    )
    subprocess.run(["docker", "rmi", *listed.stdout.split()], check=False, capture_output=True)


def _quietly(argv: tuple[str, ...], folder: Path, env: dict[str, str]) -> None:
    subprocess.run(argv, cwd=folder, check=True, capture_output=True, env=os.environ | env)


if __name__ == "__main__":
    main()
