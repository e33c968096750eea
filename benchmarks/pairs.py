"""Commands measured in turn, so that all meet the same noise.

They are started by a small process of its own (this module, run), because Linux says of none that it took less memory than its
starter had. Python keeps its compiled modules (PYTHONDONTWRITEBYTECODE is taken away), as it does those of packages that pip
installs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.session import ROOT, Measured

__all__ = ["Command", "measure"]


@dataclass(frozen=True)
class Command:
    """What is run, where, with which variables beside our own."""

    name: str
    argv: tuple[str, ...]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)


def measure(case: str, commands: Sequence[Command], runs: int) -> list[Measured]:
    """Run each command once, and then all of them in turn. Their output is dropped; a failure ends it all.

    Memory is the most that a run had at a time.
    """
    asked = json.dumps({"runs": runs, "commands": [asdict(command) for command in commands]}, default=str)
    argv = (sys.executable, "-m", "benchmarks.pairs")
    answer = json.loads(
        subprocess.run(argv, cwd=ROOT, input=asked, stdout=subprocess.PIPE, text=True, check=True).stdout
    )
    metrics = ("wall_s", "cpu_s", "memory_mb")
    return [
        Measured(case, name, dict(zip(metrics, zip(*values, strict=True), strict=True)))
        for name, values in answer.items()
    ]


def main() -> None:
    """Be the small process."""
    asked = json.load(sys.stdin)
    commands = [Command(**one) for one in asked["commands"]]
    for command in commands:
        _run(command)
    found: dict[str, list[tuple[float, float, float]]] = {command.name: [] for command in commands}
    for _ in range(asked["runs"]):
        for command in commands:
            found[command.name].append(_run(command))
    print(json.dumps(found))


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


if __name__ == "__main__":
    main()
