"""What cargo, CMake's makefiles and pip make in a container, and how far they say that they are."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from imagetiers.building.build_tools import BuildTools
from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tools", tmp_path_factory.mktemp("tools") / "checkout")
    yield made
    remove_all(made)


def reached(checkout: Checkout, tier: str) -> list[tuple[int, int, str]]:
    """Return how far a compile was, by each line of its log that says so."""
    (log,) = (checkout.root / ".imagetiers" / "logs" / tier).glob("compile-*.log")
    reader = BuildTools()
    found = (
        reader.read(line) for line in log.read_bytes().decode().split("\n")
    )  # cargo's bar ends in carriage returns
    return [(each.done, each.total, each.note) for each in found if each is not None]


def progress(checkout: Checkout, task: str) -> list[tuple[int, int, str]]:
    """Return how far a task was, as the events of doit have it: at most once a second, and at the end."""
    events = map(json.loads, (checkout.root / "events.jsonl").read_text().splitlines())
    told = [event for event in events if event["event"] == "progress" and event["title"] == task]
    return [(event["done"], event["total"], event["note"]) for event in told]


def test_a_program_in_rust(tools: Checkout) -> None:
    first = tools.doit("--events", "events.jsonl", "verify:greet")
    assert first.code == 0, first.text
    again = tools.doit("verify:greet")
    (kept,) = (tools.root / ".imagetiers" / "wheels").glob("*/outputs")

    assert first.executed == ["image:tools", "compile:greet", "image:greet", "verify:greet"]
    assert again.executed == []
    assert [str(path.relative_to(kept)) for path in sorted(kept.rglob("*"))] == ["bin", "bin/greet"]
    assert docker("run", "--rm", "--network=none", f"{tools.name}/greet:latest", "greet") == "hello, 7 crates\n"
    lines = reached(tools, "greet")
    assert lines[0] == (1, 0, "itoa v1.0.14"), "before cargo draws its first bar"
    assert [(done, total) for done, total, _ in lines[1:]] == [(0, 3), (2, 3)], "its bar: a crate, a library, a program"
    assert lines[-1][2] == "greet(bin)"
    assert progress(tools, "compile:greet")[-1] == lines[-1]
    assert not [line for line in first.text.splitlines() if "ccache" in line or "cold" in line], first.text


def test_makefiles_and_a_wheel(tools: Checkout) -> None:
    run = tools.doit("--events", "events.jsonl", "compile:counter")
    assert run.code == 0, run.text
    lines = reached(tools, "counter")

    assert lines == [
        (50, 100, "main.c.o"),
        (100, 100, "Linking C executable counter"),
        (100, 100, "Built target counter"),
        (0, 1, ""),
        (0, 1, "counter"),
        (1, 1, "counter"),
    ]
    assert progress(tools, "compile:counter")[-1] == lines[-1]
