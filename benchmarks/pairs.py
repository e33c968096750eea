"""Commands measured in turn, so that all meet the same noise, and what is reported of them: ratios above all.

Python keeps its compiled modules (PYTHONDONTWRITEBYTECODE is taken away), as it does those of packages that pip installs.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

__all__ = ["Command", "Measured", "measure", "report", "surroundings"]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Command:
    """What is run, where, with which variables beside our own; `against` is the command whose time is 1."""

    name: str
    argv: tuple[str, ...]
    folder: Path
    against: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Seconds of wall and processor of a command, of each run, and the most memory that any has had, in MB.

    Linux reports no less memory than this process has itself when it starts another.
    """

    name: str
    against: str
    walls: tuple[float, ...]
    cpus: tuple[float, ...]
    memory: float

    def ratio(self, other: Measured, kind: str) -> float:
        """Return the median of the ratios of the runs that were made one after the other."""
        mine, theirs = (one.walls if kind == "wall" else one.cpus for one in (self, other))
        return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def measure(commands: Sequence[Command], runs: int) -> list[Measured]:
    """Run each command once, and then all of them in turn. Their output is dropped; a failure is not."""
    for command in commands:
        _run(command)
    found: dict[str, list[tuple[float, float, float]]] = {command.name: [] for command in commands}
    for _ in range(runs):
        for command in commands:
            found[command.name].append(_run(command))
    measured = []
    for command in commands:
        walls, cpus, memories = zip(*found[command.name], strict=True)
        measured.append(Measured(command.name, command.against, walls, cpus, max(memories)))
    return measured


def _run(command: Command) -> tuple[float, float, float]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | dict(command.env)
    began = time.perf_counter()
    child = subprocess.Popen(
        command.argv, cwd=command.folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert child.stderr is not None
    told = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command.name}: exit code {child.returncode}\n{told.decode(errors='replace')[-2000:]}")
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def report(title: str, found: Sequence[Measured], runs: int, to: Path | None) -> None:
    """Print a table; write it to a file as JSON with what is needed to compare it with another."""
    by_name = {one.name: one for one in found}
    print(f"{title}: {runs} runs in turn, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| command | wall median s | CPU median s | memory MB | wall, times | CPU, times | of |")
    print("|---|---|---|---|---|---|---|")
    for one in found:
        other = by_name[one.against]
        print(
            f"| {one.name} | {statistics.median(one.walls):.3f} | {statistics.median(one.cpus):.3f} | {one.memory:.0f} | "
            f"{one.ratio(other, 'wall'):.2f} | {one.ratio(other, 'cpu'):.2f} | {'itself' if one is other else other.name} |"
        )
    if to is None:
        return
    document = surroundings() | {"title": title, "runs": runs, "measured": [asdict(one) for one in found]}
    known = json.loads(to.read_text()) if to.exists() else {}
    to.write_text(json.dumps(known | {title: document}, indent=1) + "\n")


def surroundings() -> dict[str, object]:
    """Return what a result must say to be compared with another: when, of what, on which machine, beside what."""
    return {
        "when": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "revision": _told("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "processor": _processor()},
        "versions": {
            "python": sys.version.split()[0],
            "doit": version("doit"),
            "docker": _told("docker", "version", "--format", "{{.Server.Version}}"),
            "buildx": _told("docker", "buildx", "version"),
        },
        "load": os.getloadavg(),
    }


def _told(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
