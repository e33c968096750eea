"""Compilers that need more memory together than their container has: the kernel kills them, or the launcher lets them wait."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all


@pytest.fixture
def hungry(tmp_path: Path) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "hungry", tmp_path / "checkout")
    yield made
    remove_all(made)


def test_where_all_jobs_at_once_die_they_are_leased_what_there_is(hungry: Checkout) -> None:
    first = hungry.doit("compile")

    assert first.code == 0, first.text
    killed = re.findall(r"(\d)\.cpp: its compiler was killed for want of memory at .* it needs (\d+) MiB", first.out)
    assert killed, "nothing was known of them, so they began together"
    assert all(90 < int(needs) < 180 for _, needs in killed)
    assert "0 of 3 compiler calls were hits" in first.out

    (builder,) = [ref for ref in docker("images", "--format", "{{.Repository}}:{{.Tag}}").split() if hungry.name in ref]
    limits = ["--memory=240m", "--memory-swap=240m", "--network=none"]
    naive = subprocess.run(
        ["docker", "run", "--rm", *limits, builder, "compile-all"], capture_output=True, text=True, check=False
    )
    assert naive.returncode != 0
    assert "Killed signal terminated program cc1plus" in naive.stderr

    hungry.edit("pipeline.yaml", "-O0", "-DOTHER")
    known = hungry.doit("--events", "events.jsonl", "compile")

    assert known.code == 0, known.text
    assert "0 of 3 compiler calls were hits" in known.out
    assert "killed" not in known.text, "each has the room that it needed"
    events = [json.loads(line) for line in (hungry.root / "events.jsonl").read_text().splitlines()]
    seen = [event for event in events if event["event"] == "compiling"]
    assert any(event["jobs"] and event["memory"] > 1 << 20 for event in seen)
    assert all(event["memory_limit"] == 240 << 20 for event in seen if event["memory_limit"])
    explained = hungry.doit("explain", "native", "--objects")
    assert explained.code == 0, explained.text
    assert "flags changed: + -DOTHER, - -O0 (3 objects, " in explained.out
    assert "    /tmp/1.o" in explained.out
