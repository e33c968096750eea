"""Variants that extend others: the same as written out, down to the keys, and their tags are nobody else's."""

from __future__ import annotations

from datetime import date

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.loader import load_config
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan

DAY = date(2026, 11, 21)
VARIANTS = """\
variants:
  loud: {tiers: {pytorch-clean: {tag: loud, args: {GREETING: HELLO}}}}
  louder: {extends: loud, gpus: [H100], tiers: {pytorch-clean: {args: {GREETING: "HELLO!"}}, arr-training: null}}
  loudest: {extends: louder, tiers: {pytorch-clean: {tag: most}}}
  whole: {gpus: [H100], tiers: {pytorch-clean: {tag: most, args: {GREETING: "HELLO!"}}, arr-training: null}}
"""


@pytest.fixture
def layout(tiny: Layout) -> Layout:
    text = tiny.pipeline.read_text()
    tiny.pipeline.write_text(text[: text.index("variants:")] + VARIANTS)
    return tiny


def test_a_chain_of_variants_comes_to_what_is_written_out(layout: Layout) -> None:
    chain, whole = (make_plan(load_repository(layout, name), DAY) for name in ("loudest", "whole"))

    assert {name: tier.key for name, tier in chain.tiers.items()} == {
        name: tier.key for name, tier in whole.tiers.items()
    }
    assert {name: tier.config.tag for name, tier in chain.tiers.items()} == {
        "pytorch-clean": "most",
        "arr-base": "loudest",
    }
    assert chain.pipeline.gpus == ("H100",)


def test_a_variant_that_extends_nobody_is_told_where_it_says_so(layout: Layout) -> None:
    layout.pipeline.write_text(f"{layout.pipeline.read_text()}  lost: {{extends: lodu, gpus: [H100]}}\n")

    (problem,) = load_config(layout, "lost").problems
    assert problem.where.startswith("pipeline.yaml:")
    assert (problem.what, problem.hint) == ("there is no variant 'lodu'", "did you mean 'loud'?")


def test_another_stage_than_in_the_extended_variant_needs_another_tag(layout: Layout) -> None:
    text = layout.pipeline.read_text()
    layout.pipeline.write_text(f"{text}  dev: {{extends: loud, tiers: {{pytorch-clean: {{target: builder}}}}}}\n")

    (problem,) = load_config(layout, "dev").problems
    assert problem.what == "another stage than in the variant loud would have the same tag, loud"
    assert problem.hint == 'tag: "loud-dev"'
