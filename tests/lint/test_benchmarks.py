"""What was measured is kept in one shape, and docs/benchmarks.md says what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.session import RESULTS, Machine, Measured, Session, keep, load, load_all
from tests.conftest import HERE

SESSION = Session(
    "made-up",
    "python -m benchmarks.made_up",
    "2026-11-29T06:00:00+00:00",
    "2026-11-29T06:01:00+00:00",
    "0" * 40,
    Machine(2, "a processor", 24.0, "Linux"),
    {"python": "3.11.7"},
    (1.5, None),
    ("A note.",),
    (
        Measured("a case", "ours", {"wall_s": (1.0, 2.0, 9.0), "requests": (3.0,)}),
        Measured("a case", "theirs", {"wall_s": (2.0, 8.0, 9.0)}),
    ),
)


def test_the_page_is_what_the_results_say() -> None:
    argv = (sys.executable, "-m", "benchmarks.page", "--check")

    done = subprocess.run(argv, cwd=HERE.parent, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_every_benchmark_has_a_result() -> None:
    assert {one.name for one in BENCHMARKS} <= load_all(RESULTS).keys()


def test_what_is_kept_is_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    other = replace(SESSION, benchmark="other")

    for session in (SESSION, other, replace(SESSION, notes=())):
        keep(path, session)

    assert load(path) == (replace(SESSION, notes=()), other)


def test_ratios_are_of_the_runs_made_in_turn() -> None:
    assert SESSION.ratio("a case", "theirs", "ours", "wall_s") == 2.0  # of 2, 4 and 1; the medians' would be 4
    assert SESSION.ratio("a case", "theirs", "ours", "requests") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.update(format=2),
        lambda values: values["sessions"][0].update(more=1),
        lambda values: values["sessions"][0].pop("revision"),
        lambda values: values["sessions"][0].update(load=[1.0]),
        lambda values: values["sessions"][0]["machine"].update(gpus=1),
        lambda values: values["sessions"][0]["measured"][0]["runs"].update(wall_s=[]),
        lambda values: values["sessions"][0]["measured"][0]["runs"].update(wall_s=["fast"]),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    path = tmp_path / "results.json"
    keep(path, SESSION)
    values = json.loads(path.read_text())
    spoil(values)
    path.write_text(json.dumps(values))

    with pytest.raises(ValueError, match=r"results\.json"):
        load(path)
