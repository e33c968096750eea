"""The planner of `cache:gc`: whatever there is, nothing goes that must stay, and nothing goes at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetiers.planning.forecast import USED, BuildProfile, Sample
from imagetiers.planning.housekeeping import (
    GRACE_MIN,
    Item,
    Limits,
    Mark,
    Sweep,
    decode_marks,
    encode_marks,
    plan_sweep,
)
from imagetiers.state.aggregates import Aggregate, decode_aggregate, encode_aggregate, fold

# Threads that other tests have left draw their pauses meanwhile, which hypothesis takes for our strategies' doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")

DAY = 86_400.0
NOW = 1_000 * DAY
LIMITS = {
    "wheels": Limits(max_age=90 * DAY, keep=2),
    "records": Limits(max_count=5, keep=5),
    "verdicts": Limits(max_age=30 * DAY),
}
KINDS = [*LIMITS, "other"]

times = st.floats(NOW - 400 * DAY, NOW + DAY)
items = st.lists(
    st.builds(
        Item,
        name=st.integers(0, 40).map(str),
        kind=st.sampled_from(KINDS),
        size=st.integers(0, 1000),
        used=times,
        generation=st.integers(1, 3),
        group=st.sampled_from(["a", "b"]),
    ),
    max_size=30,
    unique_by=lambda item: item.name,
)
names = st.frozensets(st.integers(0, 40).map(str))
marks = st.dictionaries(st.integers(0, 40).map(str), st.builds(Mark, times, st.integers(1, 3)))
bounds = st.one_of(st.none(), st.integers(0, 10_000))


def sweep(
    some: list[Item], needed: frozenset[str], before: dict[str, Mark], most: int | None, now: float = NOW
) -> Sweep:
    return plan_sweep(some, needed, before, LIMITS, now, DAY, most)


@settings(max_examples=60)
@given(items, names, marks, bounds)
def test_what_goes_was_marked_for_long_enough_and_not_used_since(
    some: list[Item], needed: frozenset[str], before: dict[str, Mark], most: int | None
) -> None:
    for item in sweep(some, needed, before, most).delete:
        mark = before[item.name]
        assert NOW - mark.since > DAY
        assert mark.generation == item.generation
        assert item.used <= mark.since
        assert item.name not in needed
        assert item.kind in LIMITS


@settings(max_examples=60)
@given(items, names, marks, bounds)
def test_the_latest_of_a_group_and_what_is_needed_are_not_even_marked(
    some: list[Item], needed: frozenset[str], before: dict[str, Mark], most: int | None
) -> None:
    found = sweep(some, needed, before, most)
    going = {item.name for item in (*found.marked, *found.delete)}
    assert not going & needed
    for kind, limit in LIMITS.items():
        for group in "ab":
            latest = sorted((i for i in some if (i.kind, i.group) == (kind, group)), key=lambda i: (-i.used, i.name))
            assert not going & {item.name for item in latest[: limit.keep]}


@settings(max_examples=60)
@given(items, names, marks, bounds)
def test_each_thing_is_kept_marked_or_deleted_once_and_only_the_marked_have_marks(
    some: list[Item], needed: frozenset[str], before: dict[str, Mark], most: int | None
) -> None:
    found = sweep(some, needed, before, most)
    every = [*found.keep, *found.marked, *found.delete]
    assert sorted(every, key=lambda i: i.name) == sorted(some, key=lambda i: i.name)
    assert found.marks.keys() == {item.name for item in found.marked}
    assert all(mark.since <= NOW for mark in found.marks.values())


@settings(max_examples=60)
@given(items, names, bounds)
def test_a_first_run_deletes_nothing_and_one_after_the_grace_all_that_was_marked(
    some: list[Item], needed: frozenset[str], most: int | None
) -> None:
    some = [replace(item, used=min(item.used, NOW)) for item in some]
    first = sweep(some, needed, {}, most)
    assert first.delete == ()
    soon = plan_sweep(some, needed, first.marks, {}, NOW + DAY, DAY)
    assert soon.delete == ()  # no limit speaks against anything any more
    assert soon.unmarked == len(first.marked)
    later = sweep(some, needed, dict(first.marks), most, NOW + DAY + 1)
    assert {item.name for item in later.delete} >= {item.name for item in first.marked}


@settings(max_examples=60)
@given(items, names, bounds)
def test_what_is_used_or_written_anew_in_between_stays(
    some: list[Item], needed: frozenset[str], most: int | None
) -> None:
    some = [replace(item, used=min(item.used, NOW)) for item in some]
    first = sweep(some, needed, {}, most)
    used = [replace(item, used=NOW + 1) for item in some]
    assert sweep(used, needed, dict(first.marks), most, NOW + 2 * DAY).delete == ()
    anew = [replace(item, generation=item.generation + 1) for item in some]
    assert sweep(anew, needed, dict(first.marks), most, NOW + 2 * DAY).delete == ()


@settings(max_examples=60)
@given(items, marks, st.integers(0, 10_000))
def test_the_bytes_are_within_the_limit_when_nothing_is_needed_and_none_is_young(
    some: list[Item], before: dict[str, Mark], most: int
) -> None:
    limits = dict.fromkeys(KINDS, Limits())
    found = plan_sweep(some, frozenset(), before, limits, NOW, DAY, most)
    assert sum(item.size for item in found.keep) <= most
    oldest = max((item.used for item in (*found.marked, *found.delete)), default=0.0)
    assert all(item.used >= oldest for item in found.keep if item.size)


def test_a_grace_period_that_is_shorter_than_a_build_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        plan_sweep([], [], {}, {}, NOW, GRACE_MIN - 1)


@settings(max_examples=60)
@given(marks)
def test_marks_are_read_as_they_were_written(before: dict[str, Mark]) -> None:
    assert decode_marks(encode_marks(before)) == before


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"{}", b'{"format":2,"marks":{}}', b'{"format":1,"marks":{"a":[1]}}', b"[" * 100_000),
        *(b'{"format":1,"marks":{"a":[1e999,1]}}', b'{"format":1,"marks":{"a":[NaN,1]}}', b'{"format":1,"marks":[]}'),
    ],
)
def test_what_are_no_marks_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever json says
        decode_marks(data)


likes = st.builds(BuildProfile, st.just("p"), st.sampled_from(["", "v"]), st.just("image"), st.integers(1, 2))
samples = st.builds(Sample, likes, st.floats(0, 1e9), st.floats(0.0, 1e5))
records = st.dictionaries(
    st.integers(0, 10**6).map(lambda n: f"{1_000_000_000 + n}-abc.json"), st.one_of(st.none(), samples), max_size=40
)


@settings(max_examples=60)
@given(records, st.integers(0, 40))
def test_folding_in_parts_or_twice_is_folding_once(some: dict[str, Sample | None], cut: int) -> None:
    listed = sorted(some.items())
    whole = fold(Aggregate(), listed)
    assert fold(fold(Aggregate(), listed[:cut]), listed) == whole
    assert fold(whole, listed) == whole
    assert decode_aggregate(encode_aggregate(whole)) == whole


@settings(max_examples=60)
@given(records)
def test_an_aggregate_has_the_newest_builds_of_each_kind(some: dict[str, Sample | None]) -> None:
    found = fold(Aggregate(), some.items())
    told = [sample for sample in some.values() if sample is not None]
    assert sum(group.count for group in found.groups.values()) == len(told)
    for like in {sample.like for sample in told}:
        began = sorted(sample.began for sample in told if sample.like == like)[-USED:]
        assert sorted(sample.began for sample in found.samples() if sample.like == like) == began


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"format":1,"folded":1,"groups":[]}', b'{"format":1,"folded":"","groups":[{}]}', b"[" * 10**5],
)
def test_what_is_no_aggregate_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever json says
        decode_aggregate(data)
