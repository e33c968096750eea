"""Whether a save matters to tiers, and by which files: what is in their keys, and nothing else."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan
from imagetiers.planning.watching import changed_inputs, keys_of, with_ancestors
from imagetiers.tui.command import variables

PIPELINE = """\
version: 1
name: shop
variables: {GREETING: {default: hello}}
tiers:
  web: {bases: {BASE: "debian:trixie-slim"}, args: {SAY: "$(var.GREETING)"}}
  base: {bases: {BASE: "debian:trixie-slim"}}
  app: {parent: base, contexts: {assets: {tier: web}}}
  other: {parent: base}
"""
FILES = {
    "web": ("ARG BASE\nARG SAY\nFROM ${BASE}\nARG SAY\nCOPY page /page\nRUN echo ${SAY}\n", "page"),
    "base": ("ARG BASE\nFROM ${BASE}\nCOPY tool /tool\n", "tool"),
    "app": ("ARG PARENT\nFROM ${PARENT}\nCOPY --from=assets /page /page\nCOPY main /main\n", "main"),
    "other": ("ARG PARENT\nFROM ${PARENT}\nCOPY else /else\n", "else"),
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    for tier, (dockerfile, file) in FILES.items():
        folder = tmp_path / "images" / tier
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(dockerfile)
        (folder / file).write_text(f"of {tier}\n")
        (folder / ".image-manifest").write_text(f"{file}\n")
    return tmp_path


def plan(root: Path, **given: str) -> Plan:
    return make_plan(load_repository(Layout(root), None, given=given), date(2026, 11, 21))


def test_what_tiers_are_made_from_is_theirs_too(shop: Path) -> None:
    assert with_ancestors(plan(shop), ["app"]) == ("web", "base", "app")
    assert with_ancestors(plan(shop), ["other"]) == ("base", "other")


@pytest.mark.parametrize(
    ("path", "app", "other"),
    [
        ("images/app/main", True, False),
        ("images/web/page", True, False),
        ("images/base/tool", True, True),
        ("images/base/Dockerfile", True, True),
        ("images/other/else", False, True),
        ("images/app/no-input", False, False),
        ("README.md", False, False),
    ],
)
def test_a_file_matters_to_whom_it_is_in_the_key_of(path: str, app: bool, other: bool, shop: Path) -> None:  # noqa: FBT001
    before = plan(shop)
    with (shop / path).open("a") as file:
        file.write("ENV MORE=1\n")
    after = plan(shop)
    for names, matters in (["app"], app), (["other"], other):
        assert (keys_of(before, names) != keys_of(after, names)) is matters
        assert changed_inputs(before, after, names, shop) == ((path,) if matters else ())


def test_what_no_file_of_a_tier_says_stands_in_the_pipeline(shop: Path) -> None:
    before, after = plan(shop), plan(shop, GREETING="goodbye")
    assert changed_inputs(before, after, ["app"], shop) == ("pipeline.yaml",)
    assert changed_inputs(before, after, ["other"], shop) == ()


def test_another_doit_reads_the_pipeline_as_this_one(shop: Path) -> None:
    pipeline = plan(shop, GREETING="good bye").pipeline
    trust = Trust(trusted=False, branch="pr-7")
    assert [*variables(pipeline, trust)] == ["GREETING=good bye", "trust=untrusted", "branch=pr-7"]
    assert [*variables(plan(shop).pipeline, Trust())] == []
