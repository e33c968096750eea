"""How long a compile goes on: from what its objects took, held against the 1,723 objects of the CUDA compile."""

from __future__ import annotations

import csv
import heapq

import pytest

from imagetiers.planning.objects import KnownObject, KnownObjects
from imagetiers.planning.time_left import seconds_left
from tests.conftest import HERE

TABLE = (HERE.parent / "benchmarks" / "results" / "cuda_objects.csv").read_text()
OBJECTS = [(row["object"], float(row["wall_seconds"])) for row in csv.DictReader(TABLE.splitlines())]
KNOWN = KnownObjects({name: KnownObject(seconds, 0, 100.0) for name, seconds in OBJECTS})


def ends(jobs: int) -> list[tuple[float, str]]:
    """Compile all of them in their order with so many jobs; say when each is done."""
    free = [0.0] * jobs
    found = []
    for name, seconds in OBJECTS:
        end = heapq.heappop(free) + seconds
        heapq.heappush(free, end)
        found.append((end, name))
    return sorted(found)


@pytest.mark.parametrize("jobs", [8, 32])
@pytest.mark.parametrize("part", [0.25, 0.5, 0.75])
def test_by_seconds_it_is_nearer_than_by_count(jobs: int, part: float) -> None:
    done = ends(jobs)
    end = done[-1][0]
    now = end * part
    names = [name for at, name in done if at <= now]
    by_count = now / len(names) * (len(OBJECTS) - len(names))

    left = seconds_left(KNOWN, names, now, len(OBJECTS) - len(names))

    assert left is not None
    assert abs(left - (end - now)) <= abs(by_count - (end - now))
    assert abs(left - (end - now)) < 0.25 * end


def test_of_more_known_objects_than_are_built_only_a_part_is_to_come() -> None:
    known = KnownObjects({f"{number}": KnownObject(10.0, 0, 100.0) for number in range(100)})
    done = [f"{number}" for number in range(10)]

    assert seconds_left(known, done, 50.0, None) == pytest.approx(450.0)
    assert seconds_left(known, done, 50.0, 30) == pytest.approx(150.0)


def test_what_nobody_has_seen_for_a_month_is_of_another_version() -> None:
    month = 31 * 86400
    known = KnownObjects(
        {"a": KnownObject(10.0, 0, month), "b": KnownObject(10.0, 0, month), "old": KnownObject(1e6, 0, 0.0)}
    )

    assert seconds_left(known, ["a"], 10.0, None) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("known", "done", "elapsed"), [(KnownObjects(), ["a"], 50.0), (KNOWN, ["a"], 50.0), (KNOWN, [OBJECTS[0][0]], 1.0)]
)
def test_too_little_is_known(known: KnownObjects, done: list[str], elapsed: float) -> None:
    assert seconds_left(known, done, elapsed, None) is None
