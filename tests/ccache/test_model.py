"""A model of writers, readers, housekeeping and deaths.

Invariant: every entry that a successful push reported is restorable bit for bit, and no reader ever sees a mix: what a
pull puts down is, name by name, a version that some writer really had.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from imagetiers.ccache import known_files
from imagetiers.ccache.local import scan
from imagetiers.ccache.prune import GRACE_MIN, PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.rollback import rollback
from imagetiers.ccache.verify import verify
from imagetiers.errors import StoreError, UnavailableError
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.conftest import MEMORY
from tests.ccache.faults import FaultyStore, Killed
from tests.ccache.synthetic import entries_in, make_entry, make_name, put_entry

WRITERS = 3
writers = st.integers(0, WRITERS - 1)
steps = st.integers(1, 9)


class Cache(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="imagetiers-model-", dir=MEMORY if MEMORY.exists() else None))
        self.store = DirectoryStore(self.folder / "store")
        self.ever: dict[str, set[bytes]] = {}
        self.reported: dict[str, bytes] = {}  # name -> the version that must be restorable, or a newer one
        self.versions = 0
        self.settled = mock.patch.object(known_files, "_SETTLED", 0)  # or nothing here would be old enough to remember
        self.settled.start()
        self.ahead = 0.0

    def writer(self, number: int) -> Path:
        return self.folder / f"writer{number}"

    @rule(number=writers, names=st.lists(st.integers(0, 14), min_size=1, max_size=5, unique=True))
    def compile_(self, number: int, names: list[int]) -> None:
        """Results have one content; manifests get a new one each time."""
        for name in names:
            kind = name % 2
            self.versions += 1
            body = b"manifest %d " % self.versions * (self.versions + 1) if kind else b"result %d " % name * 9
            data = make_entry(body, kind=kind, created=self.versions // 3 if kind else 1)
            key = make_name(name, kind, new=name % 3 == 0)
            self.ever.setdefault(key, set()).add(data)
            put_entry(self.writer(number), key, data, mtime=time.time_ns())

    @rule(number=writers)
    def ccache_evicts(self, number: int) -> None:
        for file in list(scan(self.writer(number)).values())[::2] if self.writer(number).exists() else ():
            Path(file.path).unlink()

    def push_(self, store: FaultyStore | DirectoryStore, number: int, *, checkpoint: bool) -> None:
        local = entries_in(self.writer(number))
        result = push(store, "main", self.writer(number), checkpoint=checkpoint, threads=2)
        for name in result.pushed:
            self.reported[name] = local[name]

    @rule(number=writers, checkpoint=st.booleans())
    def push_well(self, number: int, checkpoint: bool) -> None:  # noqa: FBT001
        self.push_(self.store, number, checkpoint=checkpoint)

    @rule(number=writers, at=steps, after=st.booleans(), killed=st.booleans())
    def push_badly(self, number: int, at: int, after: bool, killed: bool) -> None:  # noqa: FBT001
        fault = Killed if killed else lambda: UnavailableError.of("x", "503")
        faulty = FaultyStore(self.store, at=at, after=after, dead=killed, fault=fault)
        try:
            self.push_(faulty, number, checkpoint=False)
        except (Killed, StoreError):
            return

    @rule(first=writers, second=writers, verb=st.sampled_from(["read", "write", "stat"]), prunes=st.booleans())
    def race(self, first: int, second: int, verb: str, prunes: bool) -> None:  # noqa: FBT001
        """In the middle of one push, another push or a prune happens."""
        racing = FaultyStore(self.store)
        done: list[None] = []

        def meanwhile(seen: str, name: str) -> None:
            if seen == verb and "/head" in name and not done:
                done.append(None)
                if prunes:
                    self.prune_well(keep=0)
                elif first != second:
                    self.push_(self.store, second, checkpoint=False)

        racing.hook = meanwhile
        self.push_(racing, first, checkpoint=False)

    def prune_(self, store: FaultyStore | DirectoryStore, keep: int) -> None:
        self.ahead += GRACE_MIN + 60
        options = PruneOptions(grace=GRACE_MIN, keep_history=keep, live_share=0.9)
        prune(store, "main", options, clock=lambda: time.time() + self.ahead)

    @rule(keep=st.integers(0, 2))
    def prune_well(self, keep: int) -> None:
        self.prune_(self.store, keep)

    @rule(at=st.integers(1, 14), after=st.booleans())
    def prune_badly(self, at: int, after: bool) -> None:  # noqa: FBT001
        try:
            self.prune_(FaultyStore(self.store, at=at, after=after), 0)
        except Killed:
            return

    @rule()
    def roll_back_and_forth(self) -> None:
        try:
            there = rollback(self.store, "main")
        except StoreError:
            return
        rollback(self.store, "main", to=there.sequence - 1)

    @rule(number=writers)
    def pull_into_a_writer(self, number: int) -> None:
        pull(self.store, ["main"], self.writer(number), everything=True, threads=2)

    @rule(number=writers, at=steps)
    def pull_badly(self, number: int, at: int) -> None:
        try:
            pull(FaultyStore(self.store, at=at), ["main"], self.writer(number), threads=2)
        except Killed:
            return

    @invariant()
    def everything_reported_is_restorable(self) -> None:
        if not hasattr(self, "store"):
            return
        fresh = self.folder / "reader"
        result = pull(self.store, ["main"], fresh, everything=True, threads=1, counters=False)
        found = entries_in(fresh)
        shutil.rmtree(fresh)
        assert result.quarantined == ()
        for name, data in found.items():
            assert data in self.ever[name]
        for name, data in self.reported.items():
            assert name in found
            # a manifest may have been replaced by a later version, a result only by the same bytes
            created = slice(7, 15)
            assert found[name] == data or (found[name][created], len(found[name])) >= (data[created], len(data))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert verify(self.store, "main").ok
            shutil.rmtree(self.folder)
            self.settled.stop()


TestCache = Cache.TestCase
TestCache.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_histories() -> None:
    from hypothesis.stateful import run_state_machine_as_test  # noqa: PLC0415

    run_state_machine_as_test(Cache, settings=settings(max_examples=1000, stateful_step_count=40, deadline=None))
