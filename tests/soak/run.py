"""Run a soak by hand.

python -m tests.soak.run simulate --seed 7 --seeds 20 --operations 150     no process, no real second
python -m tests.soak.run processes --seed 7 --minutes 60                   processes, a server, kills

Prints what was done; exit code 1 when a rule was broken.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.soak.audit import Violation
from tests.soak.faults import Rates
from tests.soak.simulation import SKEWS, Outcome, simulate


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.run", description="Try to make the cache lose something."
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    sim = kinds.add_parser("simulate", help="virtual time, one process, deterministic")
    sim.add_argument("--seeds", type=int, default=1, help="so many seeds from --seed on")
    sim.add_argument("--operations", type=int, default=150, help="of each seed")
    sim.add_argument("--no-skew", action="store_true", help="all clocks are right")
    sim.add_argument("--trace", action="store_true", help="print the operations before a violation")
    for one in (sim,):
        one.add_argument("--seed", type=int, default=1)
        one.add_argument("--faults", type=float, default=0.05, help="share of requests")
        one.add_argument("--flips", type=float, default=0.01, help="share of requests")
    chosen = parser.parse_args(arguments)
    return _simulate(chosen)


def _simulate(chosen: argparse.Namespace) -> int:
    began, broken = time.monotonic(), 0
    totals = Outcome(chosen.seed)
    for seed in range(chosen.seed, chosen.seed + chosen.seeds):
        skews = (0.0,) * len(SKEWS) if chosen.no_skew else SKEWS
        outcome = simulate(seed, chosen.operations, Rates(chosen.faults, chosen.flips), skews)
        totals.add(outcome)
        if outcome.violations:
            broken += 1
            _tell(seed, outcome.violations, outcome.trace if chosen.trace else [])
    print(f"{chosen.seeds} seeds, {broken} with a violation; {time.monotonic() - began:.0f} s")  # noqa: T201
    print(totals.text())  # noqa: T201
    return 1 if broken else 0


def _tell(seed: int, violations: list[Violation], trace: list[str]) -> None:
    for line in trace[-15:]:
        print(f"    {line}")  # noqa: T201
    for violation in violations[:4]:
        print(f"seed {seed}: {violation}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
