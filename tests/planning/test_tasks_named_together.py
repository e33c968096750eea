"""Tasks on one line: named together, twice, by patterns, with options. Each of them is done, and once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planning.test_plan_is_what_runs import NOTHING, Case, TierCase, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two images that are here, of which the first has no wheels any more."""
    return World(tmp_path, Case(tiers=(TierCase(compiles=True, wheels=NOTHING), TierCase(parent=0))))


@pytest.mark.parametrize(
    "words",
    [
        ("compile", "image"),
        ("image", "compile"),
        ("image", "image", "compile"),
        ("image:t0", "image:t0", "image", "compile:t0"),
        ("image:*", "image:t1", "compile"),
        ("compile", "compile"),
    ],
)
def test_all_of_them_are_done(world: World, words: tuple[str, ...]) -> None:
    assert world.doit(*words).good == ["compile:t0"]


def test_options_hold_wherever_the_task_is_named(world: World) -> None:
    assert world.doit("image:*", "image:t1", "--rebuild", "verify:t0", "--rebuild").good == ["image:t1", "verify:t0"]
    assert world.doit("image:t1", "image", "image:t1", "--rebuild").good == ["image:t1"]


def test_a_misspelt_word_is_found_behind_any(world: World) -> None:
    assert world.doit("image", "image", "verfy").code == 3


def test_a_single_task_is_not_alone_because_it_is_first(world: World) -> None:
    assert world.doit("--single", "image:t1", "compile:t0").good == ["compile:t0"]
