"""How long a doit takes that has nothing to do, beside `docker buildx bake` and an empty doit on the same machine.

    python benchmarks/noop.py [--runs 15]

Needs a built quickstart (ci/bootstrap quickstart). The commands run in turn, so that all meet the same noise; medians and
minima are printed, in seconds of wall time, with the CPU time beside them. Python may keep its compiled modules
(PYTHONDONTWRITEBYTECODE is taken away), as it does those of packages that pip installs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("pytorch-clean", "arr-base", "arr-training", "arr-runner")


def measure(argv: list[str], cwd: Path) -> tuple[float, float]:
    """Run a command; return its wall and CPU seconds. Its output is dropped; a failure is not."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True, env=env)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def bake_file(folder: Path) -> Path:
    """Write a bake file of four targets in a chain: what a user of bake has in the place of the quickstart."""
    (folder / "Dockerfile").write_text("ARG PARENT\nFROM ${PARENT}\nRUN true\n")
    target: dict[str, dict[str, object]] = {}
    for tier, parent in zip(TIERS, ("", *TIERS), strict=False):
        contexts = {"parent": f"target:{parent}"} if parent else {}
        base = "parent" if parent else "debian:trixie-slim"
        target[tier] = {"context": ".", "args": {"PARENT": base}, "contexts": contexts, "tags": [f"bench-bake/{tier}"]}
    path = folder / "docker-bake.json"
    path.write_text(json.dumps({"group": {"default": {"targets": list(TIERS)}}, "target": target}))
    return path


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    doit = [sys.executable, "-m", "doit"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bake_file(folder)
        (folder / "dodo.py").write_text("def task_empty():\n    return {'actions': None}\n")
        commands = {
            "doit variant=quickstart, nothing to do": ([*doit, "variant=quickstart"], ROOT),
            "docker buildx bake, 4 cached targets": (["docker", "buildx", "bake", "--load"], folder),
            "doit with one empty task": (doit, folder),
        }
        for argv, cwd in commands.values():  # warm up, and build what is to be cached
            subprocess.run(argv, cwd=cwd, check=True, capture_output=True)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, (argv, cwd) in commands.items():
                times[name].append(measure(argv, cwd))
        subprocess.run(["docker", "rmi", *(f"bench-bake/{tier}" for tier in TIERS)], check=False, capture_output=True)
    load = os.getloadavg()[0]
    print(f"{runs} runs in turn, {os.cpu_count()} cores, load {load:.1f}")
    print("| command | wall median s | wall min s | CPU median s |\n|---|---|---|---|")
    for name, values in times.items():
        walls, cpus = [wall for wall, _ in values], [cpu for _, cpu in values]
        print(f"| {name} | {statistics.median(walls):.3f} | {min(walls):.3f} | {statistics.median(cpus):.3f} |")


if __name__ == "__main__":
    main()
