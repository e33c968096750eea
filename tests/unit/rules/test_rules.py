"""Each rule finds what it is for, and nothing in a Dockerfile that does right: `cases/RULE.fail` and `cases/RULE.pass`."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.rules.catalogue import RULES
from imagetiers.rules.finding import Finding
from tests.conftest import HERE, Golden
from tests.unit.rules.repository import DAY, plan_of, write

CASES = Path(__file__).parent / "cases"


def findings(root: Path, dockerfile: str) -> tuple[Finding, ...]:
    return plan_of(root, {"app": dockerfile}).tiers["app"].findings


@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_finds(rule: str, tmp_path: Path, golden: Golden) -> None:
    found = findings(tmp_path, (CASES / f"{rule}.fail").read_text())

    assert [each for each in found if each.rule == rule], "it finds nothing"
    golden("".join(f"{each.line}: {each.what} ({each.rule})\n" for each in found), CASES / f"{rule}.found")


@pytest.mark.parametrize("rule", RULES)
def test_what_does_right_passes(rule: str, tmp_path: Path) -> None:
    found = findings(tmp_path, (CASES / f"{rule}.pass").read_text())

    assert [f"{each.line}: {each.what}" for each in found if each.rule == rule] == []


def test_every_rule_has_its_cases() -> None:
    assert {path.stem for path in CASES.iterdir()} == set(RULES)


def test_what_a_parent_is_counts_for_its_children(tmp_path: Path) -> None:
    base = "ARG BASE\nFROM ${BASE}\nENV PIP_NO_CACHE_DIR=1\nHEALTHCHECK CMD true\nUSER app\n"
    child = "ARG PARENT\nFROM ${PARENT}\nRUN pip install numpy\nEXPOSE 80\n"
    plan = plan_of(tmp_path, {"base": base, "child": child}, parents={"child": "base"})

    assert [finding for tier in plan.tiers.values() for finding in tier.findings] == []


@pytest.mark.parametrize(("kind", "asked"), [("local", False), ("tar", False), ("oci", True)])
def test_files_do_not_run_as_anybody(tmp_path: Path, kind: str, *, asked: bool) -> None:
    more = {"app": f"output: {{type: {kind}, dest: out}}"}
    plan = plan_of(tmp_path, {"app": "ARG BASE\nFROM ${BASE}\nRUN true\n"}, more=more)

    assert [each.rule for each in plan.tiers["app"].findings] == (["root-user"] if asked else [])


def test_root_is_reported_where_it_comes_from(tmp_path: Path) -> None:
    base = "ARG BASE\nFROM ${BASE}\nRUN true\n"
    same, sets, again = (
        f"ARG PARENT\nFROM ${{PARENT}}\n{more}" for more in ("RUN true\n", "USER app\n", "USER root\n")
    )
    tiers = {"base": base, "same": same, "sets": sets, "again": again}
    plan = plan_of(tmp_path, tiers, parents={"same": "base", "sets": "base", "again": "sets"})

    assert [(each.tier, each.line) for tier in plan.tiers.values() for each in tier.findings] == [
        ("base", 2),
        ("again", 3),
    ]


def test_what_a_compile_mounts_hides_settings_of_its_stage(tmp_path: Path) -> None:
    dockerfile = (
        "FROM debian:trixie-slim AS builder\nENV CCACHE_DIR=/ccache\nRUN ccache -M 25G\n"
        "FROM scratch AS wheels\nFROM debian:trixie-slim\nRUN --mount=type=bind,from=wheels,target=/wheels true\nUSER app\n"
    )
    plan = plan_of(tmp_path, {"app": dockerfile}, more={"app": "compile: {stage: builder, run: make}"})

    assert [(each.rule, each.line) for each in plan.tiers["app"].findings] == [("hidden-by-mount", 3)]


def test_a_base_is_mutable_without_a_pin_only_where_others_get_the_image(tmp_path: Path) -> None:
    dockerfile = "FROM debian:trixie-slim\nUSER app\n"
    alone = plan_of(tmp_path / "alone", {"app": dockerfile})
    shared = plan_of(tmp_path / "shared", {"app": dockerfile}, top="registry: registry.example/x")

    assert alone.tiers["app"].findings == ()
    assert [each.what for each in shared.tiers["app"].findings] == ["no digest pins debian:trixie-slim"]


def test_findings_are_no_part_of_a_key(tmp_path: Path) -> None:
    write(tmp_path, {"app": "FROM debian:trixie-slim\nRUN true\n"})
    plan = make_plan(load_repository(Layout(tmp_path), None), DAY)

    assert plan.tiers["app"].findings
    assert "root-user" not in str(plan.document())


def test_our_own_images_break_no_rule_in_any_variant() -> None:
    layout = Layout(HERE.parent)
    variants = (None, *load_repository(layout, None).variants)
    plans = [make_plan(load_repository(layout, variant), DAY) for variant in variants]

    assert [str(each) for plan in plans for tier in plan.tiers.values() for each in tier.findings] == []
