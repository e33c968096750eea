"""The ccache of a pipeline that was renamed: listed, marked, removed; and nothing that somebody still writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.config.model import Trust
from imagetiers.operations import gc_ccache
from imagetiers.operations.cache_gc import GcOptions
from imagetiers.operations.gc_ccache import plan_abandoned, remove_namespace
from imagetiers.planning.housekeeping import Item
from tests.ccache.faults import FaultyStore, Killed
from tests.ccache.synthetic import entries_in, make_directory
from tests.operations.test_gc import DAY, UNTRUSTED, Cache

OWN = "trusted.main.new-name.deb.ccache-4.14"
OLD = "trusted.main.old-name.deb.ccache-4.14"
BRANCH = "untrusted.pr-7.old-name.deb.ccache-4.14"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache in which two pipelines were built a hundred days ago, on main and on a branch."""
    made = Cache(tmp_path)
    make_directory(tmp_path / "a", 10)
    for name in (OWN, OLD, BRANCH):
        push(made.store, name, tmp_path / "a")
    made.now += 100 * DAY
    return made


def gc(cache: Cache, *, dry_run: bool = False) -> str:
    said = cache.gc(GcOptions(dry_run=dry_run), pipelines=["new-name"])
    cache.now += 2 * DAY
    return said


def there(cache: Cache) -> set[str]:
    return {name.split("/")[1] for name in cache.store.names() if name.startswith("ccache/")}


def test_two_runs_a_day_apart_remove_it_and_say_so(cache: Cache) -> None:
    dry = gc(cache, dry_run=True)
    assert f"ccache/{OLD}: " in dry
    assert "last written 100 d ago: would be marked" in dry
    assert not any(name.startswith("gc/") for name in cache.store.names())
    first = gc(cache)
    assert f"ccache/{BRANCH}: " in first
    assert there(cache) == {OWN, OLD, BRANCH}
    second = gc(cache)
    assert "ccache of other pipelines: 0 (0 B) kept, 2 (" in second
    assert "last written 104 d ago: removed" in second
    assert there(cache) == {OWN}
    assert "other pipelines" not in gc(cache)


def test_what_is_written_again_stays(cache: Cache, tmp_path: Path) -> None:
    gc(cache)
    make_directory(tmp_path / "a", 10, seed=1)
    push(cache.store, OLD, tmp_path / "a")
    said = gc(cache)
    assert there(cache) == {OWN, OLD}
    assert "unmarked" in said
    gc(cache)
    assert there(cache) == {OWN, OLD}


def test_without_a_pipeline_and_in_an_untrusted_build_nothing_is_anothers(cache: Cache) -> None:
    for trust, pipelines in ((Trust(), []), (UNTRUSTED, ["new-name"])):
        for _ in range(3):
            cache.gc(GcOptions(), trust=trust, pipelines=pipelines)
            cache.now += 2 * DAY
    assert there(cache) == {OWN, OLD, BRANCH}


def old(cache: Cache) -> Item:
    sweep = plan_abandoned(cache.store, ["new-name"], {}, 90 * DAY, cache.now, DAY)
    return next(item for item in sweep.marked if OLD in item.name)


def test_a_push_that_was_faster_loses_nothing(cache: Cache, tmp_path: Path) -> None:
    item, before = old(cache), cache.now
    made = make_directory(tmp_path / "a", 10, seed=1)
    push(cache.store, OLD, tmp_path / "a")
    assert not remove_namespace(cache.store, item, before)
    pull(cache.store, [OLD], tmp_path / "b", everything=True)
    assert entries_in(tmp_path / "b").items() >= made.items()


@pytest.mark.parametrize("at", ["list", "delete"])
def test_a_push_in_the_middle_of_it_loses_nothing(cache: Cache, tmp_path: Path, at: str) -> None:
    item, before = old(cache), cache.now
    cache.now += 1.0
    made = make_directory(tmp_path / "new", 10, seed=1)
    faulty = FaultyStore(cache.store)
    pushed = False

    def meanwhile(method: str, _name: str) -> None:
        nonlocal pushed
        head_is_gone = f"{item.name}head" not in cache.store.names()
        if method == at and head_is_gone and not pushed:
            pushed = True
            push(cache.store, OLD, tmp_path / "new")

    faulty.hook = meanwhile
    assert remove_namespace(faulty, item, before)
    assert pushed
    pull(cache.store, [OLD], tmp_path / "b", everything=True)
    assert entries_in(tmp_path / "b") == made


def test_what_a_killed_run_has_left_goes_with_a_later_one(cache: Cache) -> None:
    gc(cache)
    store = FaultyStore(cache.store, at=3, verbs=("delete",))
    with pytest.raises(Killed):
        cache.gc(GcOptions(), store=store, pipelines=["new-name"])
    assert there(cache) > {OWN}
    for _ in range(60):
        gc(cache)
    assert there(cache) == {OWN}


def test_of_many_those_that_were_written_longest_ago_have_their_turn(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc_ccache, "_MOST", 1)
    push(cache.store, BRANCH, tmp_path / "a", good=False)
    sweep = plan_abandoned(cache.store, ["new-name"], {}, 0.0, cache.now + 1, DAY)
    assert [item.name for item in sweep.marked] == [f"ccache/{OLD}/"]
