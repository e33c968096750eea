"""A soak in one process without a real second: the same seed does the same thing.

Operations run one inside another: in the middle of any store call of one, another may run to its end (or its death), two
deep, while the first one's machine is awake or asleep. Executors run their work at once, tokens and jitter are drawn.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from imagetiers.ccache.pull import pull
from imagetiers.ccache.verify import verify
from tests.soak.audit import Auditor, PushReport, Violation
from tests.soak.clock import VirtualClock, installed
from tests.soak.faults import Draw, Rates
from tests.soak.memory import MemoryStore
from tests.soak.operations import MAX_AGE, TRUSTED, UNTRUSTED, Operation, Report, draw_operation, perform, wrong_entries
from tests.soak.outcome import Outcome
from tests.soak.seam import FaultyStore, Killed

T = TypeVar("T")
DAY = 86_400.0
SKEWS = (0.0, 0.0, -60 * DAY, DAY)
"""Seconds by which the machines' clocks are wrong."""

_DEEPEST = 2
_MEMORY = Path("/dev/shm")


class _AtOnce(Executor):
    """An executor that does the work when it is given, in the caller's thread."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  as an executor does
            future.set_exception(error)
        return future

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], **_: Any) -> Iterator[T]:
        return iter([fn(*arguments) for arguments in zip(*iterables, strict=False)])


class Simulation:
    """One seed's life."""

    def __init__(self, seed: int, folder: Path, rates: Rates, skews: Sequence[float] = SKEWS) -> None:
        self.clock = VirtualClock()
        self._seed, self._folder = seed, folder
        self._draw = random.Random(f"soak {seed}")
        self._faults = Draw(f"faults {seed}", rates)
        self.store = MemoryStore(lambda: self.clock.now)
        self.auditor = Auditor(self.store.get, lambda: self.clock.now, max_age=MAX_AGE)
        self.store.watcher = self.auditor
        self.outcome = Outcome(seed)
        self._skews = skews
        self._depth = 0
        self._busy: set[int] = set()

    def run(self, operations: int, *, check_every: int = 25) -> Outcome:
        """Do so many operations, those inside others not counted; stop at the first violation."""
        with installed(self.clock), _deterministic(self._seed):
            for turn in range(1, operations + 1):
                self._operation()
                if self._draw.random() < 0.02:
                    self._lose_a_pack()
                self.clock.suspend(self._draw.choice([1.0, 60.0, 1800.0, 7200.0, DAY / 2]))
                if turn % check_every == 0 or turn == operations:
                    self._check_restorable()
                if self.auditor.violations:
                    break
        self.outcome.violations += self.auditor.violations
        self.outcome.faults = Counter({str(fault): count for fault, count in self._faults.counts.items()})
        self.outcome.deletions = self.auditor.deletions
        self.outcome.requests, self.outcome.heads = self._faults.calls, self.auditor.heads
        return self.outcome

    def _lose_a_pack(self) -> None:
        """Take a pack away, as a rule of the bucket or somebody by hand does."""
        namespace = self._draw.choice([TRUSTED, UNTRUSTED])
        current = self.auditor.current(namespace)
        packs = sorted(name for name in current.objects if name.startswith("packs/")) if current else []
        if packs:
            name = f"ccache/{namespace}/{self._draw.choice(packs)}"
            self.auditor.damage(name)
            self.store.delete(name)
            self.outcome.losses += 1

    def _operation(self) -> None:
        op = draw_operation(self._draw, len(self._skews), threads=1)
        if op.machine in self._busy:
            return
        number = self.outcome.operations.total() + 1
        op = replace(op, number=number, at=self.clock.now)
        self.outcome.operations[op.kind] += 1
        life = self._draw.randint(1, 12) if self._draw.random() < 0.12 else 0
        store = FaultyStore(self.store, self._faults, self._moment(life))
        before, self.clock.skew = self.clock.skew, self._skews[op.machine]
        directory = self._folder / f"machine{op.machine}" / "ccache"
        self._busy.add(op.machine)
        self._depth += 1
        try:
            report = perform(op, store, directory, self.clock.time())
        except Killed:
            self.outcome.kills += 1
            report = Report("killed", wrong=wrong_entries(directory))
        finally:
            self._depth -= 1
            self._busy.discard(op.machine)
            self.clock.skew = before
        self._take(op, report)

    def _moment(self, life: int) -> Callable[[str, str], None]:
        calls = 0

        def moment(_verb: str, _name: str) -> None:
            nonlocal calls
            calls += 1
            if calls == life:
                raise Killed
            if self._draw.random() < 0.02:
                self.outcome.suspends += 1
                for _ in range(self._draw.choice([1, 1, 2, 3])):  # the others do not wait for a machine that sleeps
                    self.clock.suspend(self._draw.choice([300.0, 3000.0, 4 * 3600.0]))
                    if self._depth <= _DEEPEST:
                        self._operation()
            if self._depth <= _DEEPEST and self._draw.random() < 0.04:
                self._operation()

        return moment

    def _take(self, op: Operation, report: Report) -> None:
        self.outcome.outcomes[f"{op.kind}: {report.outcome}"] += 1
        who = f"operation {op.number} ({op.kind} by machine {op.machine})"
        self.outcome.trace.append(f"{who} in {op.namespace}: {report.outcome} {report.sequence or ''} {report.error}")
        if report.crash:
            self.auditor.violations.append(Violation("a traceback", who, report.crash))
        self.auditor.violations += [Violation("a wrong byte", who, text) for text in report.wrong]
        if report.contents:
            contents = {name: bytes.fromhex(content) for name, content in report.contents.items()}
            told = PushReport(who, report.sequence, contents, frozenset(report.pushed), op.at, op.kind != "checkpoint")
            self.auditor.reported(op.namespace, told)

    def _check_restorable(self) -> None:
        """Restore everything without faults: all that is listed must come, bit for bit."""
        for namespace in (TRUSTED, UNTRUSTED):
            current = self.auditor.current(namespace)
            if current is None:
                continue
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                reader = Path(folder) / "reader"
                result = pull(self.store, [namespace], reader, everything=True, threads=1, counters=False)
                lost = self.auditor.lost(namespace)
                bad = [*result.quarantined, *verify(self.store, namespace).bad]
                bad = [line for line in bad if not any(pack in line for pack in lost)] + list(wrong_entries(reader))
                there = sum(entry.pack.name not in lost for entry in current.live.values())
                if result.entries != there:
                    bad.append(f"{result.entries} of {there} entries restored")
            self.auditor.violations += [Violation("not restorable", namespace, text) for text in bad[:4]]


@contextlib.contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Draw tokens and jitter from the seed, and let executors work at once."""
    draw = random.Random(f"tokens {seed}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(secrets, "token_hex", lambda size=32: draw.randbytes(size).hex()))
        stack.enter_context(mock.patch.object(random, "uniform", draw.uniform))
        for name, module in list(sys.modules.items()):
            if name.startswith("imagetiers.") and hasattr(module, "ThreadPoolExecutor"):
                stack.enter_context(mock.patch.object(module, "ThreadPoolExecutor", _AtOnce))
        yield


def simulate(seed: int, operations: int, rates: Rates | None = None, skews: Sequence[float] = SKEWS) -> Outcome:
    """Run the simulation of a seed in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="imagetiers-soak-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        return Simulation(seed, folder, rates or Rates(), skews).run(operations)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
