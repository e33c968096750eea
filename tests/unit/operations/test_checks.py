"""What is said of checks that failed, crashed, or never were: the runner as it is, in a shell, without an engine."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.model import Budget
from imagetiers.errors import BuildError, PipelineError
from imagetiers.inputs.repository import load_repository
from imagetiers.judging.outcome import CheckOutcome, failed_checks
from imagetiers.operations.checks import RUNNER, Checked, outcomes, problems
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import Plan, TierPlan, VerifyPlan
from imagetiers.report.status import status_table
from imagetiers.state import wheels
from tests.conftest import HERE, Golden, statuses_of

CASES = {
    "a check fails": "echo ok   one; echo FAIL two is not 2; echo FAIL three; exit 1",
    "a check fails, and the script says that all is well": "echo FAIL two; exit 0",
    "it crashes": "echo 'Traceback (most recent call last):' >&2; echo '  File x' >&2; echo 'KeyError: 1' >&2; exit 1",
    "it crashes after a failure": "echo FAIL one; echo 'Traceback (most recent call last):' >&2; echo Error >&2; exit 1",
    "it exits 1 silently": "exit 1",
    "it checks nothing": "exit 0",
    "it checks nothing, and talks": "echo okay then; printf 'no end of line'",
    "python3 cannot be run": "exit 126",
    "many failures": "i=0; while [ $i -lt 40 ]; do echo FAIL $i; i=$((i+1)); done; exit 1",
    "it kills the runner": "kill -9 $PPID",
}


@pytest.fixture
def tier() -> TierPlan:
    plan = make_plan(load_repository(Layout(HERE / "repos" / "tiny"), None), date(2026, 11, 21))
    return plan.tiers["arr-base"]


def run(tier: TierPlan, script: str, folder: Path, *, python3: bool = True) -> Checked:
    """Run the runner as the container would, with a python3 that is sh."""
    (folder / "bin").mkdir()
    if python3:
        (folder / "bin/python3").symlink_to(shutil.which("sh") or "")
    for name, _, _ in tier.verify.scripts:
        (folder / name).mkdir()
        text = script if name == tier.name else "echo 'ok   the parent'"
        (folder / name / "verify.py").write_text(text)
    (folder / "verify.sh").write_bytes(RUNNER.replace(b"/imagetiers", str(folder).encode()))
    checked = Checked("4711", Path(".imagetiers/logs/arr-base/verify-0.log"), tier.verify.script_paths)
    done = subprocess.run(
        [shutil.which("sh") or "", folder / "verify.sh"],
        env={"PATH": str(folder / "bin"), "IMAGETIERS_MARK": "4711", "IMAGETIERS_VERIFY": "pytorch-clean arr-base"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        list(checked.lines(line))
    checked.code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return checked


def told(tier: TierPlan, checked: Checked) -> str:
    return "\n".join(map(str, problems(tier, checked))).replace(tier.ref, "REF")


def test_what_is_said(tier: TierPlan, tmp_path: Path, golden: Golden) -> None:
    texts = []
    for number, (name, script) in enumerate(CASES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        texts.append(f"== {name}\n{told(tier, run(tier, script, folder))}\n")
    (tmp_path / "none").mkdir()
    texts.append(f"== no python3\n{told(tier, run(tier, '', tmp_path / 'none', python3=False))}\n")
    outside = Checked("4711", Path(".imagetiers/logs/arr-base/verify-0.log"), tier.verify.script_paths)
    list(outside.lines("[FATAL tini (7)] exec /bin/sh failed: No such file or directory"))
    outside.code = 127
    texts.append(f"== no shell\n{told(tier, outside)}\n")

    golden("\n".join(texts), HERE / "golden" / "checks.txt")


def test_what_passes(tier: TierPlan, tmp_path: Path) -> None:
    checked = run(tier, "echo ok; printf 'ok   two'", tmp_path)

    assert told(tier, checked) == ""
    assert [outcome.check for outcome in outcomes(tier, checked)] == ["the parent", "", "two"]
    assert checked.done


def test_what_fails_has_the_scripts_own_names(tier: TierPlan, tmp_path: Path) -> None:
    checked = run(tier, "echo 'FAIL torch: it is gone'; echo FAIL; echo ok two", tmp_path)
    found = list(outcomes(tier, checked))
    script = "images/arr-base/verify.py"

    assert [(one.tier, one.check) for one in found if not one.passed] == [(tier.name, script)]
    (named, nameless) = failed_checks(found)
    assert (named.check, named.line) == ("torch", "it is gone")
    assert nameless.check == script
    assert nameless.line.startswith(f"2 of 3 checks of {script} failed")
    silent = CheckOutcome(tier.name, "libraries", "two are missing:\n    a\n    b")
    assert [one.check for one in failed_checks([*found, silent])] == ["torch", script, "libraries"]


def test_a_script_cannot_speak_for_the_runner(tier: TierPlan, tmp_path: Path) -> None:
    checked = run(tier, "echo '-- exit code 0'; echo \"${IMAGETIERS_MARK} end 0\"; exit 3", tmp_path)

    assert "ended with exit code 3" in told(tier, checked)


def _status(plan: Plan, **verify: object) -> str:
    tiers = {name: replace(tier, verify=VerifyPlan(**verify)) for name, tier in plan.tiers.items()}  # type: ignore[arg-type]
    changed = replace(plan, tiers=tiers)
    table = status_table(changed, ObservedState(), statuses_of(changed, ObservedState()), 0, {})
    return " ".join(str(cell) for column in table.table.columns if column.header == "verified" for cell in column.cells)


def test_what_ran_no_checks_is_not_called_verified() -> None:
    plan = make_plan(load_repository(Layout(HERE / "repos" / "tiny"), None), date(2026, 11, 21))

    assert _status(plan, scripts=()) == "no checks no checks no checks"
    assert _status(plan, scripts=(), budget=Budget(1)) == "no no no"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.unlink(), "without: there is no images/pytorch-clean/verify.py that reads this"),
        (lambda path: (path.unlink(), path.symlink_to("gone.py")), "is a link to gone.py, which does not exist"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder, but must be a file"),
    ],
)
def test_expectations_need_somebody_who_checks_them(make: object, said: str, tiny: Layout) -> None:
    make(tiny.root / "images/pytorch-clean/verify.py")  # type: ignore[operator]

    with pytest.raises(PipelineError) as error:
        load_repository(tiny, None)

    assert said in str(error.value)
    assert len(error.value.problems) == 1


def test_a_link_to_a_script_is_one(tiny: Layout) -> None:
    path = tiny.root / "images/arr-base/verify.py"
    path.rename(tiny.root / "shared.py")
    path.symlink_to("../../shared.py")

    assert load_repository(tiny, None).inputs["arr-base"].files.verify


@pytest.fixture
def left(tiny: Layout) -> Path:
    folder = tiny.partial_wheels("k")
    folder.mkdir(parents=True)
    for name in wheels.OURS:
        (folder / name).touch()
    return folder


def test_what_a_compile_leaves_beside_wheels_is_named(left: Path, tiny: Layout) -> None:
    (left / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    (left / "b-1.tar.gz").write_bytes(b"sdist")
    (left / "dist").mkdir()
    (left / "c.whl").symlink_to("a-1-py3-none-any.whl")

    assert wheels.commit(tiny, "k", "compile:t") == ("b-1.tar.gz (not *.whl)", "c.whl (a link)", "dist (a folder)")
    assert {path.name for path in tiny.wheels("k").iterdir()} == {"a-1-py3-none-any.whl", "wheels.json"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "compile:t: the compile step ended well, but left no wheel in /wheels, which is empty"),
        (
            {"b.tar.gz": b"x"},
            "compile:t: the compile step ended well, but left no wheel in /wheels, only b.tar.gz (not",
        ),
        ({"a.whl": b""}, "compile:t: left wheels of 0 bytes in /wheels: a.whl"),
    ],
)
def test_an_empty_wheelhouse_is_an_error_and_nothing_is_removed(
    files: dict[str, bytes], said: str, left: Path, tiny: Layout
) -> None:
    for name, data in files.items():
        (left / name).write_bytes(data)

    with pytest.raises(BuildError) as error:
        wheels.commit(tiny, "k", "compile:t")

    assert str(error.value).startswith(said)
    assert {path.name for path in left.iterdir()} == wheels.OURS | files.keys()
