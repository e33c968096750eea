"""Measure: everything that fits into twenty minutes, or what takes hours.

    python -m benchmarks [--only noop,cache]      the quick ones, into benchmarks/results/quick.json
    python -m benchmarks --long [--only NAME]     the long ones, each into a file of its own
    python -m benchmarks --list                   what there is, and the command of each
    python -m benchmarks.page                     the tables of docs/benchmarks.md, from what is kept

What measures again takes the place of its last result. `rclone` and `turbo` (`npm install turbo`) are compared with where they
are on the PATH.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.session import RESULTS, ROOT

QUICK_RESULT = RESULTS / "quick.json"


@dataclass(frozen=True)
class Benchmark:
    """A module of this package and its arguments. `given` names those that only who measures knows: folders of a build.

    What is `in_memory` gets a TMPDIR there, unless there is one.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    quick: bool = False
    in_memory: bool = False

    def argv(self, given: str, to: Path) -> tuple[str, ...]:
        """Return the command."""
        words = (f"benchmarks.{self.module}", *self.arguments, *shlex.split(given), "--to", str(to))
        return (sys.executable, "-m", *words)


CACHE = ("--methods", "imagetiers,floor,tar,local,threads,rclone")
REAL = ("--real", "CCACHE_DIRECTORY", "--real-is", "TEXT")
BENCHMARKS = (
    Benchmark("noop", "noop", quick=True),
    Benchmark("many_1000", "many", ("--shapes", "tree,chain", "--runs", "3"), quick=True),
    Benchmark("contexts", "contexts", quick=True),
    Benchmark("cache", "cache", CACHE, quick=True, in_memory=True),
    Benchmark("fresh_worker", "fresh_worker", quick=True),
    Benchmark("many_10000", "many", ("--tiers", "10000", "--shapes", "tree", "--runs", "2")),
    *(
        Benchmark(name, "cache", ("--runs", "3:1:0", "--name", name, *CACHE), REAL, in_memory=True)
        for name in ("cache_real", "cache_real_torch", "cache_real_cuda")
    ),
    Benchmark("cache_scale_200000", "cache_scale", ("--entries", "200000", "--folder", "/dev/shm/scale")),  # noqa: S108
    Benchmark("cache_scale_2000000", "cache_scale", ("--entries", "2000000", "--runs", "4"), ("--folder", "DIRECTORY")),
    Benchmark("shared_layers_c10", "shared_layers"),
    Benchmark("shared_layers_torch", "shared_layers", ("--target", "torch")),
    Benchmark("wheel_layers_c10", "wheel_layers", (), ("WHEELS",)),
    Benchmark("wheel_layers_torch", "wheel_layers", ("--target", "torch"), ("WHEELS",)),
    Benchmark("pytorch_warm", "pytorch_warm", (), ("--cache", "DIRECTORY", "--name", "PIPELINE")),
    Benchmark(
        *("cuda_warm", "pytorch_warm", ("--variant", "cuda", "--only", "compile", "--as", "cuda_warm")),
        ("--cache", "DIRECTORY", "--name", "PIPELINE"),
    ),
    Benchmark("sizes", "sizes", (), ("CHECKOUT", "variant=cpu")),
)


def main() -> int:
    """Run what was asked for, one after the other; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--long", action="store_true", help="those that take hours, or that need a build of PyTorch")
    parser.add_argument("--only", help="names, with commas")
    parser.add_argument("--given", default="", help="what the one that --only names needs beside (--list shows it)")
    parser.add_argument("--list", action="store_true", help="list them")
    options = parser.parse_args()
    chosen = [one for one in BENCHMARKS if one.quick != options.long]
    if options.only is not None:
        names = options.only.split(",")
        chosen = [one for one in BENCHMARKS if one.name in names]
        if unknown := set(names) - {one.name for one in chosen}:
            parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if options.list:
        for one in BENCHMARKS:
            words = (*one.arguments, *one.given)
            print(
                f"{'quick' if one.quick else 'long':6} {one.name:20} python -m benchmarks.{one.module} {' '.join(words)}"
            )
        return 0
    done = [_run(one, options.given) for one in chosen]  # also those after one that has failed
    return int(not all(done))


def _run(benchmark: Benchmark, given: str) -> bool:
    if benchmark.given and not given:
        print(f"{benchmark.name}: left out, for it needs --given '{' '.join(benchmark.given)}'", flush=True)
        return True
    to = QUICK_RESULT if benchmark.quick else RESULTS / f"{benchmark.name}.json"
    began = time.monotonic()
    environment = {**({"TMPDIR": "/dev/shm"} if benchmark.in_memory else {}), **os.environ}  # noqa: S108
    done = subprocess.run(benchmark.argv(given, to), cwd=ROOT, env=environment, check=False)
    print(f"{benchmark.name}: exit code {done.returncode} after {time.monotonic() - began:.0f} s\n", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
