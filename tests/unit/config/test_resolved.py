"""What `doit plan --resolved` prints is a pipeline without shorthand, and is read to the same keys."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetiers.config.expansion import Expanded, expand
from imagetiers.config.layout import PIPELINE_FILE, Layout
from imagetiers.config.loader import load_config
from imagetiers.config.resolved import resolved_text
from imagetiers.config.yamltree import Node, parse_yaml
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.repository_file import Reads
from tests.conftest import HERE
from tests.pipelines.test_pipelines import lay_over

DAY = date(2026, 11, 21)
CASES = sorted(
    path.parent for path in (HERE / "pipelines").glob("*/expected.txt") if path.read_text().startswith("accepted")
)
AWKWARD = [
    "", "1e5", "0o17", "0x1F", "2.10", "+.5", "1_000", "no", "on", "~", "null", "True", "12:30", "2026-11-21", "=", "<<",
    "a: b", "# x", "- x", "? x", "!x", "&a", "*a", "%", "@", "`", "|", ">", "'", '"', "\\", " lead", "trail ", "a\n\nb\n", "\n",
    "\t", "x" * 300, "$(var.x)", "$$(var.x)", "$$$(matrix.x) $(env.x)", "$(date)", "${X}", "a " * 200, "é\u2028\u0085\ufeff😀",
]  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(AWKWARD),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")),
    st.lists(
        st.sampled_from(["$", "(", ")", "var.x", "matrix.x", "vars.", " ", "\n", ": ", "'", '"', "\\", "#", "-"])
    ).map("".join),
)


def keys(layout: Layout, variant: str | None) -> dict[str, tuple[str, str, str]]:
    plan = make_plan(load_repository(layout, variant), DAY)
    return {tier.name: (tier.key, tier.config.tag, tier.verify.check) for tier in plan.tiers.values()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_pipeline_that_is_accepted_has_the_same_keys(case: Path, tiny: Layout) -> None:
    lay_over(case, tiny)
    wanted = case / "variant.txt"
    variant = wanted.read_text().strip() if wanted.exists() else None
    before = keys(tiny, variant)

    tiny.pipeline.write_text(resolved_text(load_config(tiny, variant).expanded, variant))

    assert keys(tiny, None) == before


def test_there_are_such_pipelines() -> None:
    assert len(CASES) > 50


@given(texts=st.dictionaries(TEXTS, TEXTS, max_size=4), words=st.lists(TEXTS, max_size=4))
def test_every_text_is_read_as_itself(texts: dict[str, str], words: list[str]) -> None:
    def node(value: object) -> Node:
        if isinstance(value, dict):
            return Node({key: node(each) for key, each in value.items()}, 1, 1, keys={})
        return Node([node(each) for each in value] if isinstance(value, list) else str(value), 1, 1)

    tiers = {"t": {"verify": {"labels": texts, "entrypoint": words}}}
    printed = resolved_text(Expanded(node({"tiers": tiers})), None)
    read = expand(parse_yaml(printed.encode(), PIPELINE_FILE), {}, Reads(), frozenset())

    unreadable = [problem for problem in read.problems if "a key holds a reference" not in problem.what]
    assert unreadable == []
    assert read.tree.plain() == {"tiers": tiers}
