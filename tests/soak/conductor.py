"""A soak of real processes: many at once on one server, killed, stopped and continued, with wrong clocks and full disks.

The conductor draws operations and gives each to a process of its own (`worker`), advances the time that all of them
share, and holds what they report against what the auditor saw. Between rounds, when nothing runs, it lets everything be
restored without faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagetiers.config.model import TrustSettings
from tests.soak.audit import PushReport, Violation
from tests.soak.clock import SharedClock, installed
from tests.soak.faults import Draw, Rates
from tests.soak.operations import MAX_AGE, TRUSTED, UNTRUSTED, WHEELS, Operation, Report, draw_operation
from tests.soak.outcome import Outcome
from tests.soak.server import AuditedStorage, SoakServer, serving
from tests.soak.signatures import forged, make_keys
from tests.soak.wheels_made import key_of
from tests.soak.worker import Task

ROOT = Path(__file__).parents[2]
DAY = 86_400.0
SKEWS = (0.0, 0.0, -60 * DAY, DAY, 0.0, -3600.0)
"""Seconds by which the machines' clocks are wrong."""

FULL_DISK = 4
"""The machine whose disk holds very little, where this process may mount one."""

DEADLINE = 90.0
"""Real seconds that no process may outlive: several times what its patience with the store adds up to."""

HURRY = 20.0
"""Real seconds within which a process ends that was asked to (SIGTERM): a few waits of 1.5 s, on a busy machine."""

RSS_MAX = 320 * 1024
"""KiB that no process may hold at its peak, its interpreter and libraries included."""

_PROGRAMMERS = ("TypeError", "KeyError", "JSONDecodeError", "AttributeError", "ValueError", "AssertionError")
_AT_ONCE = 5
_ROUND = 120
_KILLED, _STOPPED, _ASKED = 0.08, 0.05, 0.05
_FORGED = 0.2


@dataclass
class _Process:
    """An operation's process: its id when it has started, and how it ended."""

    pid: asyncio.Future[int]
    ended: asyncio.Future[tuple[int, int]]


@dataclass
class _Zygote:
    """The process that forks the workers."""

    process: asyncio.subprocess.Process
    reports: Path
    running: dict[int, _Process] = field(default_factory=dict)

    def start(self, task: Task) -> _Process:
        loop = asyncio.get_running_loop()
        entry = self.running[task.number] = _Process(loop.create_future(), loop.create_future())
        assert self.process.stdin
        self.process.stdin.write(task.json().encode() + b"\n")
        return entry

    async def listen(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            kind, number, *rest = line.decode().split()
            if kind == "started":
                self.running[int(number)].pid.set_result(int(rest[0]))
            else:
                self.running.pop(int(number)).ended.set_result((int(rest[0]), int(rest[1])))


class Conductor:
    """One seed's soak."""

    def __init__(self, seed: int, folder: Path, rates: Rates, skews: Sequence[float], *, signed: bool) -> None:
        self._folder, self._skews, self._signed = folder, skews, signed
        self._draw = random.Random(f"conductor {seed}")
        self._faults = Draw(f"faults {seed}", rates)
        self.clock = SharedClock(folder / "clock")
        keys = make_keys(folder / "keys") if signed else TrustSettings()
        self.storage = AuditedStorage(self.clock.time, max_age=MAX_AGE, keys=keys)
        self._forger = random.Random(f"forger {seed}")
        self.outcome = Outcome(seed)
        self._number = self._told = 0
        self._published: set[tuple[str, int]] = set()
        self._server = SoakServer(self.storage, self._faults)
        self._url = self._quiet_url = ""
        self._machines = [asyncio.Lock() for _ in skews]

    async def run(self, seconds: float, *, stop_early: bool) -> Outcome:
        """Go on for so long (real seconds), in rounds; `stop_early`: until the first violation."""
        ends = time.monotonic() + seconds
        quiet = SoakServer(self.storage, None)
        with installed(self.clock):
            async with serving(self._server) as url, serving(quiet) as quiet_url, self._zygote() as zygote:
                self._url, self._quiet_url = url, quiet_url
                while time.monotonic() < ends and not (stop_early and self.violations):
                    await self._round(zygote, ends)
                    await self._check(zygote)
                    self._forge()
                    self.clock.suspend(self._draw.choice([3600.0, DAY / 2, DAY]))
                    self._progress(ends)
        self.outcome.violations = self.storage.auditor.violations
        self.outcome.faults.update({str(fault): count for fault, count in self._faults.counts.items()})
        self.outcome.deletions = self.storage.auditor.deletions
        self.outcome.requests, self.outcome.heads = self._faults.calls, self.storage.auditor.heads
        return self.outcome

    @property
    def violations(self) -> int:
        return len(self.storage.auditor.violations)

    @contextlib.asynccontextmanager
    async def _zygote(self) -> AsyncIterator[_Zygote]:
        reports = self._folder / "reports"
        reports.mkdir()
        command = [sys.executable, "-m", "tests.soak.worker", str(reports)]
        command += [str(self._folder / "clock"), str(self._folder / "keys")]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        zygote = _Zygote(process, reports)
        listener = asyncio.create_task(zygote.listen())
        try:
            yield zygote
        finally:
            assert process.stdin
            process.stdin.close()
            await process.wait()
            listener.cancel()

    async def _round(self, zygote: _Zygote, ends: float) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for _ in range(_ROUND):
                await gate.acquire()
                if time.monotonic() > ends:
                    break
                op = draw_operation(self._draw, len(self._skews), threads=self._draw.choice([1, 2, 4]))
                self._number += 1
                self.clock.suspend(self._draw.expovariate(1 / 60.0))
                task = group.create_task(self._one(zygote, replace(op, number=self._number)))
                task.add_done_callback(lambda _: gate.release())

    async def _one(self, zygote: _Zygote, op: Operation) -> None:
        async with self._machines[op.machine]:
            op = replace(op, at=self.clock.time())
            report, who = await self._process(zygote, op, self._url, disturbed=True)
        self._take(op, report, who)

    async def _process(
        self, zygote: _Zygote, op: Operation, url: str, *, disturbed: bool, folder: Path | None = None
    ) -> tuple[Report, str]:
        """Run an operation in a process of its own; return its report, and a name for it."""
        who = f"operation {op.number} ({op.kind} by machine {op.machine} in {op.namespace})"
        machine = folder or self._folder / f"machine{op.machine}" / "ccache"
        process = zygote.start(Task(op.number, op, str(machine), self._skews[op.machine], url))
        pid = await process.pid
        self.outcome.operations[op.kind] += 1
        deadline = await self._disturb(pid, process) if disturbed else DEADLINE
        try:
            status, rss = await asyncio.wait_for(asyncio.shield(process.ended), deadline)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
                await asyncio.sleep(0.3)
                os.kill(pid, signal.SIGKILL)
            await process.ended
            trace = zygote.reports / f"{op.number}.trace"
            where = trace.read_text() if trace.exists() else ""
            self._violated("a process outlived its deadline", who, f"{deadline:.0f} s; {where[-3000:]}")
            return Report("outlived"), who
        self.outcome.rss = max(self.outcome.rss, rss)
        if rss > RSS_MAX:
            self._violated("a process held too much memory", who, f"{rss} KiB")
        found = zygote.reports / f"{op.number}.json"
        if found.exists():
            report = Report(**json.loads(found.read_text()))
            found.unlink()
        else:
            report = Report("killed" if os.WIFSIGNALED(status) else "died", error=f"status {status}")
            (zygote.reports / f"{op.number}.trace").unlink(missing_ok=True)
        return report, who

    async def _disturb(self, pid: int, process: _Process) -> float:
        """Kill it, ask it to stop, or stop it for a while in which hours pass; return how long it may still take."""
        at = self._draw.random()
        moment = self._draw.choice([0.02, 0.1, 0.3, 1.0]) * self._draw.random()
        if at > _KILLED + _STOPPED + _ASKED:
            return DEADLINE
        await asyncio.sleep(moment)
        if process.ended.done():
            return DEADLINE
        with contextlib.suppress(ProcessLookupError):
            if at < _KILLED:
                os.kill(pid, signal.SIGKILL)
                self.outcome.kills += 1
                return DEADLINE
            if at > _KILLED + _STOPPED:
                os.kill(pid, signal.SIGTERM)
                self.outcome.asked += 1
                return HURRY
            os.kill(pid, signal.SIGSTOP)
            self.outcome.suspends += 1
            asleep = self._draw.random() * 3
            for _ in range(3):
                self.clock.suspend(self._draw.choice([300.0, 3000.0, 3 * 3600.0]))
                await asyncio.sleep(asleep / 3)
            os.kill(pid, signal.SIGCONT)
        return DEADLINE

    def _take(self, op: Operation, report: Report, who: str) -> None:
        self.outcome.outcomes[f"{op.kind}: {report.outcome}"] += 1
        told = f"{who}: {report.outcome} {report.sequence or ''} {report.error}"
        self.outcome.trace = [*self.outcome.trace[-200:], told]
        if report.crash or report.outcome == "died":
            self._violated("a traceback", who, report.crash or report.error)
        for text in report.wrong:
            self._violated("a wrong byte", who, text)
        told = report.error.partition("none of Google Cloud Storage's: ")[
            0
        ]  # said in words; what follows is for the curious
        if any(word in told for word in _PROGRAMMERS):
            self._violated("an error that only a programmer reads", who, report.error)
        if report.outcome == "published":
            self._published.add((op.namespace, report.sequence))
        if report.contents:
            contents = {name: bytes.fromhex(content) for name, content in report.contents.items()}
            pushed = PushReport(who, report.sequence, contents, frozenset(report.pushed), op.at)
            self.storage.auditor.reported(op.namespace, pushed)

    async def _check(self, zygote: _Zygote) -> None:
        """Restore and verify everything without faults."""
        folder = self._folder / "reader" / "ccache"
        for namespace in (TRUSTED, UNTRUSTED):
            current = self.storage.auditor.current(namespace)
            if current is None:
                continue
            self._number += 1
            op = Operation("check", 0, 0, namespace, 4, self._number, self.clock.time())
            report, who = await self._process(zygote, op, self._quiet_url, disturbed=False, folder=folder)
            shutil.rmtree(folder, ignore_errors=True)
            self.outcome.outcomes[f"check: {report.outcome}"] += 1
            if report.outcome != "intact" or report.sequence != len(current.live):
                seen = f"{report.sequence} of {len(current.live)} restored; {report.error}{report.crash}"
                self._violated("not restorable", who, seen)
            for text in report.wrong[:4]:
                self._violated("not restorable", who, text)
            if self._draw.random() < 0.2:
                self._number += 1
                await self._process(
                    zygote, replace(op, kind="downgrade", number=self._number), self._quiet_url, disturbed=False
                )
        for namespace, wheels in sorted(self._published):
            prefix = "" if namespace == TRUSTED else "untrusted/pr-7/"
            if f"{prefix}wheels/{key_of(wheels)}.tar" not in self.storage.auditor.wheels:
                continue  # removed, when that was right: the auditor has seen it
            self._number += 1
            op = Operation("restore", 0, wheels, namespace, 1, self._number, self.clock.time())
            report, who = await self._process(zygote, op, self._quiet_url, disturbed=False, folder=folder)
            if report.outcome != "restored" or report.wrong:
                self._violated("published wheels are not restorable", who, f"{report.outcome} {report.error}")
        self.storage.auditor.forget_old()

    def _forge(self) -> None:
        """Where readers insist on signatures, put something in the place of wheels that are not there."""
        names = [f"wheels/{key_of(number)}.tar" for number in range(WHEELS)] if self._signed else []
        there = [name for name in names if name in self.storage.auditor.wheels]
        for name in names:
            if there and self.storage.true_bytes(name) is None and self._forger.random() < _FORGED:
                source = self._forger.choice(there)
                wheels = self.storage.true_bytes(source) or b""
                self.storage.forge(name, forged(wheels, source, stripped=self._forger.random() < 0.5))
                self.outcome.forged += 1

    def _violated(self, rule: str, where: str, seen: str) -> None:
        self.storage.auditor.violations.append(Violation(rule, where, seen))

    def _progress(self, ends: float) -> None:
        done = f"{self.outcome.operations.total()} operations, {self._faults.calls} requests"
        met = f"{self._faults.counts.total()} faults, {self.violations} violations"
        spaces = [
            current for name in self.storage.auditor.namespaces if (current := self.storage.auditor.current(name))
        ]
        live = " and ".join(str(len(current.live)) for current in spaces)
        for violation in self.storage.auditor.violations[self._told :]:
            print("\n    ".join(["VIOLATION", *self.outcome.trace[-25:], str(violation)]), flush=True)  # noqa: T201
        self._told = self.violations
        print(f"{ends - time.monotonic():.0f} s left: {done}, {met}; {live} entries", flush=True)  # noqa: T201


@contextlib.contextmanager
def small_disk(folder: Path):  # type: ignore[no-untyped-def]  # noqa: ANN201  a generator of whether there is one
    """Mount a file system of very little room there for the block, where this process may."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "soak", str(folder)], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", str(folder)], check=False)


def soak(
    seed: int,
    seconds: float,
    rates: Rates | None = None,
    skews: Sequence[float] = SKEWS,
    *,
    stop_early: bool = True,
    signed: bool = True,
) -> Outcome:
    """Soak for so many real seconds."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="imagetiers-soak-", dir=memory if memory.is_dir() else None))
    try:
        with small_disk(folder / f"machine{FULL_DISK}") as small:
            if not small:
                print("no disk is full in this run: mounting a small one is not permitted here")  # noqa: T201
            conductor = Conductor(seed, folder, rates or Rates(), skews, signed=signed)
            return asyncio.run(conductor.run(seconds, stop_early=stop_early))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
