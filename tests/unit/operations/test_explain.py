"""Every reason for a build, as it is reported: golden texts. Nothing here needs Docker or a registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from imagetiers.config.layout import Layout
from imagetiers.errors import PipelineError
from imagetiers.inputs.repository import load_repository
from imagetiers.operations import explain as explain_step
from imagetiers.operations.explain import explanations, show_explanations
from imagetiers.planning.explain import Explanation
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import Present, RegistryState, Unknown
from imagetiers.report.explanation import explanation_text
from imagetiers.state.observe import mark_forced, observe
from imagetiers.state.records import Record, keep, keep_inputs
from tests.conftest import HERE, Golden, edit
from tests.registry.harness import Builder, builder

DAY = date(2026, 11, 21)
GOLDEN = HERE / "golden" / "explain"


def built(layout: Layout, tmp_path: Path, today: date = DAY) -> Builder:
    """Return a machine whose cache knows a build of everything, as another machine has left it there."""
    me = builder(layout.root, "", tmp_path / "cache")
    plan = make_plan(load_repository(layout, None), today)
    for tier in plan.tiers.values():
        keep(me.session, tier.key_document, Record("image", tier.name, tier.key, 400.0, 5.0, image="sha256:1"))
        keep_inputs(me.session, tier.key, tier.files)
        if tier.compile is not None:
            keep(me.session, tier.compile.key_document, Record("compile", tier.name, tier.compile.key, 300.0, 5.0))
            keep_inputs(me.session, tier.compile.key, tier.compile.files)
    return me


def told(me: Builder, today: date = DAY) -> list[Explanation]:
    plan = make_plan(load_repository(me.layout, None), today)
    return explanations(replace(me.session, plan=plan), plan.tiers)


def pin(letter: str) -> Callable[[Layout], None]:
    def apply(layout: Layout) -> None:
        layout.lock.write_text(f"images:\n  debian:trixie-slim: sha256:{letter * 64}\n")

    return apply


def add(path: str) -> Callable[[Layout], None]:
    def apply(layout: Layout) -> None:
        (layout.root / path).write_text("x")

    return apply


def nothing(_: Layout) -> None:
    pass


def rename_parent(layout: Layout) -> None:
    edit("pipeline.yaml", "arr-training: {parent: arr-base}", "arr-training: {parent: pytorch-clean}")(layout)


CASES: dict[str, tuple[Callable[[Layout], None], Callable[[Layout], None]]] = {
    "file": (nothing, edit("images/arr-base/config/arr-base.txt", "for", "FOR")),
    "file-added": (nothing, add("images/arr-base/config/new")),
    "compile-file": (nothing, edit("images/pytorch-clean/source.txt", "one", "eins")),
    "dockerfile": (nothing, edit("images/pytorch-clean/Dockerfile", "USER 10001", "RUN true\nUSER 10001")),
    "arg": (nothing, edit("pipeline.yaml", "GREETING: hello", "GREETING: hi")),
    "base-moved": (pin("a"), pin("b")),
    "base-pinned": (nothing, pin("a")),
    "other-parent": (nothing, rename_parent),
    "evicted": (nothing, nothing),
}


@pytest.mark.parametrize("case", CASES)
def test_texts(case: str, tiny: Layout, tmp_path: Path, golden: Golden) -> None:
    before, after = CASES[case]
    before(tiny)
    me = built(tiny, tmp_path)
    after(tiny)

    golden(explanation_text(told(me), 7600.0) + "\n", GOLDEN / f"{case}.txt")


def test_never_built_and_a_wrong_name(tiny: Layout, tmp_path: Path) -> None:
    me = builder(tiny.root, "", tmp_path / "cache")

    assert {cause.value for one in told(me) for cause in one.causes} == {"never built"}
    with pytest.raises(PipelineError, match=r"there is no tier 'arr-bse'\n  hint: did you mean 'arr-base'\?"):
        show_explanations(me.session, ["arr-bse"], as_json=False)


def test_the_calendar(tiny: Layout, tmp_path: Path, golden: Golden) -> None:
    edit("pipeline.yaml", "arr-base: {parent", "arr-base: {refresh: weekly, parent")(tiny)
    edit("images/arr-base/Dockerfile", "COPY", "ARG REFRESH_EPOCH\nCOPY")(tiny)
    me = built(tiny, tmp_path)

    golden(explanation_text(told(me, date(2026, 11, 28)), 7600.0) + "\n", GOLDEN / "refresh.txt")


def test_a_raised_recipe(tiny: Layout, tmp_path: Path) -> None:
    me = built(tiny, tmp_path)
    plan = make_plan(load_repository(tiny, None), DAY)
    tier = plan.tiers["pytorch-clean"]
    other = replace(tier.recipe(), key_document=replace(tier.key_document, recipe=2))
    raised = replace(plan, tiers={tier.name: replace(tier, key=other.key_document.key, recipe=lambda: other)})

    one = explanations(replace(me.session, plan=raised), [tier.name])[0]
    assert (one.causes[0].value, one.summary) == ("recipe version raised", "recipe version raised: recipe: 1 -> 2")


def test_the_nearest_build_is_the_one_with_the_fewest_differences(tiny: Layout, tmp_path: Path) -> None:
    me = built(tiny, tmp_path)
    edit("images/arr-base/config/arr-base.txt", "for", "FOR")(tiny)
    built(tiny, tmp_path)
    edit("images/arr-base/config/arr-base.txt", "FOR", "for")(tiny)
    (tiny.root / "images/arr-base/config/new").write_text("x")

    one = told(me)[1]
    assert [detail.place for detail in one.origins[0].details] == ["images/arr-base/config/new"]


def test_a_manifest_that_nobody_kept(tiny: Layout, tmp_path: Path) -> None:
    me = built(tiny, tmp_path)
    plan = make_plan(load_repository(tiny, None), DAY)
    me.services.store.delete(f"keys/{plan.tiers['arr-base'].key}.json")
    edit("images/arr-base/config/arr-base.txt", "for", "FOR")(tiny)

    child = told(me)[2]
    assert child.causes[0].value == "parent changed"
    assert "nobody has kept the key document of" in child.summary


def test_what_the_registry_says(tiny: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = built(tiny, tmp_path)
    plan = make_plan(load_repository(tiny, None), DAY)
    states = {
        "pytorch-clean": RegistryState(digest="sha256:" + "a" * 64, image="sha256:b"),
        "arr-base": RegistryState(unknown="host/tiny/arr-base: the registry answers 503"),
        "arr-training": RegistryState(wrong="evicted: sha256:c was published, but it is gone"),
    }
    seen = replace(observe(replace(me.session, plan=plan)), registered=states)
    monkeypatch.setattr(explain_step, "observe", lambda *_: seen)

    assert [(one.causes[0].value, one.summary) for one in told(me)] == [
        ("up to date", "found in registry, sha256:aaaaaaaaaaaa"),
        ("unknown", "host/tiny/arr-base: the registry answers 503"),
        ("evicted", "evicted: sha256:c was published, but it is gone"),
    ]


def test_labels_in_the_registry_are_enough(tiny: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that knows nothing: the key documents are the labels of what was published."""
    edit("pipeline.yaml", "name: tiny", "name: tiny\nregistry: host")(tiny)
    me = builder(tiny.root, "", tmp_path / "empty")
    before = {tier.ref: me.engine.make(tier) for tier in me.plan.tiers.values()}
    me.engine.table.clear()
    edit("images/arr-base/config/arr-base.txt", "for", "FOR")(tiny)
    plan = make_plan(load_repository(tiny, None), DAY)
    answers = {ref: Present("sha256:d", image.id) for ref, image in before.items()}
    registry: Any = me.services.registry
    monkeypatch.setattr(registry, "look_up", lambda refs: {ref: answers.get(ref, Unknown("no")) for ref in refs})
    monkeypatch.setattr(registry, "describe", lambda found: {ref: before[ref] for ref in found})
    tags = {ref.rpartition(":")[0]: (ref.rpartition(":")[2], "latest") for ref in before}
    monkeypatch.setattr(registry, "tags", tags.get)
    seen = replace(observe(replace(me.session, plan=plan)), registered={tier: RegistryState() for tier in plan.tiers})
    monkeypatch.setattr(explain_step, "observe", lambda *_: seen)

    one = explanations(replace(me.session, plan=plan), ["arr-base"])[0]
    assert one.against is not None
    assert one.against.where == "the registry"
    assert one.summary == "inputs changed: images/arr-base/config/arr-base.txt edited"


def test_forced_and_json(tiny: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    me = built(tiny, tmp_path)
    mark_forced(tiny, "image:arr-base")
    assert told(me)[1].causes[0].value == "forced"
    (tiny.state / "forgotten" / "image:arr-base").unlink()
    edit("images/arr-base/config/arr-base.txt", "for", "FOR")(tiny)
    plan = make_plan(load_repository(tiny, None), DAY)

    show_explanations(replace(me.session, plan=plan), ["arr-training"], as_json=True)

    text = capsys.readouterr().out
    assert json.loads(text)["version"] == 1
    golden(text, GOLDEN / "arr-training.json")
