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
from tests.soak.conductor import SKEWS as CLOCKS
from tests.soak.conductor import soak
from tests.soak.faults import Fault, Rates
from tests.soak.outcome import Outcome
from tests.soak.simulation import SKEWS, simulate


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.run", description="Try to make the cache lose something."
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    sim = kinds.add_parser("simulate", help="virtual time, one process, deterministic")
    sim.add_argument("--seeds", type=int, default=1, help="so many seeds from --seed on")
    sim.add_argument("--operations", type=int, default=150, help="of each seed")
    sim.add_argument("--trace", action="store_true", help="print the operations before a violation")
    many = kinds.add_parser("processes", help="a server, and a process for each operation")
    many.add_argument("--minutes", type=float, default=1.0)
    many.add_argument("--go-on", action="store_true", help="after a violation, too")
    many.add_argument("--unsigned", action="store_true", help="nothing is signed, and nothing has to be")
    many.add_argument("--trace", action="store_true", help="print the operations before a violation")
    for one in (sim, many):
        one.add_argument("--seed", type=int, default=1)
        one.add_argument("--faults", type=float, default=0.05, help="share of requests")
        one.add_argument("--no-skew", action="store_true", help="all clocks are right")
        one.add_argument(
            "--without", action="append", default=[], choices=[str(kind) for kind in Fault], metavar="FAULT"
        )
        one.add_argument("--flips", type=float, default=0.01, help="share of requests")
    chosen = parser.parse_args(arguments)
    return _simulate(chosen) if chosen.kind == "simulate" else _processes(chosen)


def _processes(chosen: argparse.Namespace) -> int:
    skews = (0.0,) * len(CLOCKS) if chosen.no_skew else CLOCKS
    outcome = soak(
        chosen.seed, chosen.minutes * 60, _rates(chosen), skews, stop_early=not chosen.go_on, signed=not chosen.unsigned
    )
    _tell(chosen.seed, outcome.violations, outcome.trace if chosen.trace else [])
    print(outcome.text())  # noqa: T201
    return 1 if outcome.violations else 0


def _simulate(chosen: argparse.Namespace) -> int:
    began, broken = time.monotonic(), 0
    totals = Outcome(chosen.seed)
    for seed in range(chosen.seed, chosen.seed + chosen.seeds):
        skews = (0.0,) * len(SKEWS) if chosen.no_skew else SKEWS
        outcome = simulate(seed, chosen.operations, _rates(chosen), skews)
        totals.add(outcome)
        if outcome.violations:
            broken += 1
            _tell(seed, outcome.violations, outcome.trace if chosen.trace else [])
    print(f"{chosen.seeds} seeds, {broken} with a violation; {time.monotonic() - began:.0f} s")  # noqa: T201
    print(totals.text())  # noqa: T201
    return 1 if broken else 0


def _rates(chosen: argparse.Namespace) -> Rates:
    usual = Rates().weights
    return Rates(chosen.faults, chosen.flips, {kind: usual[kind] for kind in usual if str(kind) not in chosen.without})


def _tell(seed: int, violations: list[Violation], trace: list[str]) -> None:
    for line in trace[-15:]:
        print(f"    {line}")  # noqa: T201
    for violation in violations[:4]:
        print(f"seed {seed}: {violation}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
