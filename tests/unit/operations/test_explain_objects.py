"""doit explain --objects: what is kept of the last compile, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.operations.explain_objects import explain_objects
from tests.operations.engine import Compile, Machine, machine


@pytest.fixture
def here(tiny: Layout, tmp_path: Path) -> Machine:
    return machine(tiny, tmp_path / "cache")


def test_before_any_compile_and_of_a_tier_without(here: Machine) -> None:
    explain_objects(here.session, [], as_json=False)
    assert here.console.lines == ["pytorch-clean: no compile of it is recorded"]
    explain_objects(here.session, ["arr-base"], as_json=False)
    assert here.console.lines[1:] == ["arr-base: compiles nothing"]


def test_after_one_each_miss_has_its_reason(here: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    def script(job: Compile) -> int:
        job.call(1, 3.0)
        job.make_wheel()
        return 0

    here.engine.script = script
    here.compile()
    explain_objects(here.session, ["pytorch-clean"], as_json=False)
    assert here.console.lines[-1].splitlines()[1:] == ["  never compiled before (1 object, 3.0 s)", "    /b/1.o  3.0 s"]

    here.compile(force=True)
    explain_objects(here.session, [], as_json=True)
    (told,) = json.loads(capsys.readouterr().out)["tiers"]
    assert told["tier"] == "pytorch-clean"
    assert (told["last"]["hits"], told["last"]["misses"], told["last"]["saved"]) == (1, 0, 3.0)

    def another(job: Compile) -> int:
        job.call(2, 9.0)
        return script(job)

    here.engine.script = another
    here.compile(force=True)
    explain_objects(here.session, [], as_json=True)
    (told,) = json.loads(capsys.readouterr().out)["tiers"]
    assert told["last"]["missed"] == [
        {"object": "/b/2.o", "source": "2.c", "why": "never compiled before", "detail": "", "seconds": 9.0}
    ]
