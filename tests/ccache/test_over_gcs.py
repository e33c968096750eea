"""The same push and pull over HTTP, against the tests' own GCS server: request counts, and faults on the wire."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from imagetiers.ccache.prune import prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import PushOutcome, push
from imagetiers.ccache.verify import verify
from tests.ccache.synthetic import entries_in, make_directory, make_entry, make_name, put_entry
from tests.gcs.harness import GcsServer


def test_a_round_trip_and_what_it_costs(gcs_server: GcsServer, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 400, mean=58_000, manifests=0.3)
    large = make_name(10**6)
    made[large] = make_entry(random.Random(1).randbytes(9 << 20))
    put_entry(tmp_path / "a", large, made[large])
    store = gcs_server.store("round-trip")
    before = gcs_server.requests()
    result = push(store, "main", tmp_path / "a")
    assert result.pushed == frozenset(made)
    # Besides those counted: the large object is a resumable upload.
    assert gcs_server.requests() - before <= result.requests + 4
    before = gcs_server.requests()
    assert push(store, "main", tmp_path / "a").outcome is PushOutcome.NOTHING_NEW
    assert gcs_server.requests() - before == 3  # the head, what is there, the head
    make_directory(tmp_path / "a", 10, seed=5)
    before = gcs_server.requests()
    assert push(store, "main", tmp_path / "a").entries == 10
    assert gcs_server.requests() - before <= 6
    pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == entries_in(tmp_path / "a")
    assert prune(store, "main").dropped == 0
    assert verify(store, "main").ok


@pytest.mark.parametrize("fault", ["status", "reset", "cut", "truncate", "corrupt", "duplicate"])
def test_faults_on_the_wire_lose_nothing(gcs_server: GcsServer, tmp_path: Path, fault: str) -> None:
    store = gcs_server.store(f"faults-{fault}")
    made = make_directory(tmp_path / "a", 60)
    rules = [{"fault": fault, "skip": skip, "times": 1} for skip in (0, 2, 5)]
    for turn in range(3):
        gcs_server.config(rules=rules)
        push(store, "main", tmp_path / "a")
        gcs_server.config(rules=rules)
        found = pull(store, ["main"], tmp_path / f"b{turn}")
        gcs_server.config(rules=[])
        assert found.quarantined == ()
        assert entries_in(tmp_path / f"b{turn}") == made
        made |= make_directory(tmp_path / "a", 20, seed=turn + 1)
