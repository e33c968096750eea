"""The soak, as much of it as a CI run has time for: fixed seeds, virtual time; and every seed that once failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.soak.faults import FLIPS, Fault, Rates
from tests.soak.simulation import SKEWS, simulate

SEEDS = sorted(Path(__file__).with_name("seeds").glob("*.json"))


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_by_deaths_races_and_sleeping_machines(seed: int) -> None:
    outcome = simulate(seed, 100, Rates(0.0, 0.0), (0.0,) * 4)
    assert outcome.violations == []
    assert outcome.heads > 10
    assert outcome.suspends


def test_nothing_is_lost_by_faults_of_the_transport() -> None:
    kinds: dict[Fault, int] = {kind: 1 for kind in Fault if kind is not Fault.MISSING and kind not in FLIPS}
    outcome = simulate(1, 150, Rates(0.10, 0.0, kinds), (0.0,) * 4)
    assert outcome.violations == []
    assert outcome.faults.total() > 20


def test_the_same_seed_does_the_same_thing() -> None:
    first, second = (simulate(5, 60) for _ in range(2))
    assert first == second
    assert first.faults


def test_the_auditor_sees_a_loss() -> None:
    """A store whose every tenth read has a flipped bit: if nothing is told then, nothing would ever be."""
    found = [violation for seed in range(3) for violation in simulate(seed, 60, Rates(0.0, 0.10)).violations]
    assert found


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(0, 1000, 100))
def test_many_seeds(seed: int) -> None:
    outcomes = [simulate(one, 150) for one in range(seed, seed + 100)]
    assert [(outcome.seed, violation) for outcome in outcomes for violation in outcome.violations] == []


@pytest.mark.soak
@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_a_seed_that_failed(path: Path) -> None:
    kept = load(path)
    skews = SKEWS if kept["skew"] else (0.0,) * len(SKEWS)
    assert simulate(kept["seed"], kept["operations"], Rates(kept["faults"], kept["flips"]), skews).violations == []
