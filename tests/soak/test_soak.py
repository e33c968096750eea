"""The soak, as much of it as a CI run has time for: fixed seeds, virtual time; and every seed that once failed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagetiers.ccache import push as ccache_push
from imagetiers.ccache.format.head import decode_head, encode_head
from imagetiers.ccache.push import push
from tests.ccache.synthetic import make_directory
from tests.soak.audit import Auditor, PushReport
from tests.soak.faults import Rates
from tests.soak.memory import MemoryStore
from tests.soak.simulation import SKEWS, simulate

HEAD = "ccache/main/head"

SEEDS = sorted(Path(__file__).with_name("seeds").glob("*.json"))


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost(seed: int) -> None:
    """By deaths, races, machines that sleep or have wrong clocks, packs that are gone, 5 % faults and 1 % flipped bits."""
    outcome = simulate(seed, 150)
    assert outcome.violations == []
    assert outcome.heads > 10
    assert outcome.suspends
    assert outcome.kills
    assert outcome.faults.total() > 20


def test_nothing_is_lost_when_a_third_of_all_requests_fail() -> None:
    outcome = simulate(1, 150, Rates(0.25, 0.08))
    assert outcome.violations == []
    assert outcome.heads


def test_the_same_seed_does_the_same_thing() -> None:
    first, second = (simulate(5, 60) for _ in range(2))
    assert first == second
    assert first.faults


def audited(tmp_path: Path) -> tuple[MemoryStore, Auditor]:
    """Return a store that holds what two pushes have brought, in a segment each, and who watches it."""
    store = MemoryStore(lambda: 1_800_000_000.0)
    store.watcher = auditor = Auditor(store.get, store.now, max_age=1000.0)
    make_directory(tmp_path, 30)
    push(store, "main", tmp_path)
    make_directory(tmp_path, 3, seed=1)
    push(store, "main", tmp_path)
    assert auditor.violations == []
    assert auditor.heads == 2
    return store, auditor


@pytest.mark.parametrize("reason", ["push", "prune", "verify", "rollback to 1"])
def test_the_auditor_sees_entries_that_get_lost(tmp_path: Path, reason: str) -> None:
    store, auditor = audited(tmp_path)
    head = decode_head(store.read(HEAD)[0])
    state = replace(head.state, reason=reason, segments=head.state.segments[1:], uses={})
    store.write(HEAD, encode_head(head.followed_by(state, parent="0" * 64)))
    assert [violation.rule for violation in auditor.violations] == [f"a {reason.split(maxsplit=1)[0]} lost entries"]


def test_the_auditor_sees_a_deletion_of_what_is_referred_to(tmp_path: Path) -> None:
    store, auditor = audited(tmp_path)
    for blob in list(store.list("ccache/main/packs/"))[:1]:
        store.delete(blob.name)
    assert [violation.rule for violation in auditor.violations] == ["deleted what is referred to"]
    push(store, "main", tmp_path / "nothing")
    state = decode_head(store.read(HEAD)[0])
    store.write(HEAD, encode_head(state.followed_by(state.state, parent="0" * 64)))
    assert auditor.violations[-1].rule == "a head that refers to what is not there"


def test_a_push_that_does_not_look_what_the_store_has_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccache_push, "_gone_but_here", lambda *_: set())
    found = [violation.rule for seed in range(400, 404) for violation in simulate(seed, 150).violations]
    assert "says that it is there, but its pack is gone" in found


def test_the_auditor_sees_a_report_that_is_not_true(tmp_path: Path) -> None:
    _, auditor = audited(tmp_path)
    told = PushReport("somebody", 2, {"0" * 40: b"x" * 16}, frozenset(), 0.0)
    auditor.reported("main", told)
    assert [violation.rule for violation in auditor.violations] == ["reported as pushed, but is not there"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(0, 1000, 100))
def test_many_seeds(seed: int) -> None:
    outcomes = [simulate(one, 150) for one in range(seed, seed + 100)]
    assert [(outcome.seed, violation) for outcome in outcomes for violation in outcome.violations] == []


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_a_seed_that_failed(path: Path) -> None:
    kept = load(path)
    skews = SKEWS if kept["skew"] else (0.0,) * len(SKEWS)
    assert simulate(kept["seed"], kept["operations"], Rates(kept["faults"], kept["flips"]), skews).violations == []
