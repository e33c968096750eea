"""The last build as its records tell it: what belongs to it, what waited for what, and the critical path."""

from __future__ import annotations

from datetime import date

import pytest

from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan
from imagetiers.planning.timeline import Span, last_build


@pytest.fixture
def plan(tiny: Layout) -> Plan:
    return make_plan(load_repository(tiny, None), date(2026, 11, 29))


def test_what_waited_for_what_and_the_critical_path(plan: Plan) -> None:
    spans = [
        Span("compile:pytorch-clean", 1000, 60),
        Span("image:pytorch-clean", 1061, 10),
        Span("image:arr-base", 1072, 5),
        Span("image:arr-training", 1080, 30),
        Span("image:arr-base", 10, 5),  # of a build before
    ]
    found = last_build(plan, spans)

    assert found is not None
    assert (found.began, found.seconds) == (1000, 110)
    assert [(span.task, span.waited_for, span.critical) for span in found.spans] == [
        ("compile:pytorch-clean", "", True),
        ("image:pytorch-clean", "compile:pytorch-clean", True),
        ("image:arr-base", "image:pytorch-clean", True),
        ("image:arr-training", "image:arr-base", True),
    ]


def test_what_ends_earlier_beside_it_is_not_critical_and_a_second_try_counts(plan: Plan) -> None:
    spans = [
        Span("image:pytorch-clean", 1000, 10),
        Span("compile:pytorch-clean", 940, 50),
        Span("compile:pytorch-clean", 900, 20),  # it was interrupted
        Span("image:gone", 1000, 5),  # of a tier that is not there any more
    ]
    found = last_build(plan, spans)

    assert found is not None
    assert [(span.task, span.seconds, span.critical) for span in found.spans] == [
        ("compile:pytorch-clean", 50, True),
        ("image:gone", 5, False),
        ("image:pytorch-clean", 10, True),
    ]


def test_builds_are_told_apart_by_their_run_and_not_by_the_time_between_them(plan: Plan) -> None:
    spans = [
        Span("image:pytorch-clean", 1000, 10, run="one"),
        Span("image:arr-base", 1011, 10, run="one"),
        Span("image:pytorch-clean", 1030, 10, run="two"),
        Span("image:arr-base", 9000, 10, run="two"),  # on a worker that had to be waited for
        Span("image:arr-training", 1035, 1, run="three"),
        Span("image:arr-training", 8990, 1),
    ]
    found = last_build(plan, spans)

    assert found is not None
    assert [(span.task, span.began) for span in found.spans] == [
        ("image:pytorch-clean", 1030),
        ("image:arr-base", 9000),
    ]


def test_of_no_records_there_is_none(plan: Plan) -> None:
    assert last_build(plan, []) is None
