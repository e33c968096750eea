"""Tells of a compile while it runs: its hits, its jobs and memory, and how long it goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

from imagetiers.ccache.call_log import Call, CallReader, Outcome
from imagetiers.errors import ImagetiersError
from imagetiers.events import Compiling
from imagetiers.planning.commands import CALL_LOG, JOB_LOG
from imagetiers.planning.hit_rates import hit_rates
from imagetiers.planning.objects import Job, KnownObjects, read_jobs
from imagetiers.planning.time_left import seconds_left
from imagetiers.services import ContainerLoad, Services

__all__ = ["CompileWatch"]

_EVERY = 2.0  # seconds
_AT_ONCE = 32 << 20  # bytes of a log that are read in one look; the rest waits for the next


class CompileWatch:
    """Looks at a compile every two seconds, for the block, and tells what it sees: it only reads, and never fails one.

    `folder` is where the compile writes its logs, `known` what was known of its objects before.
    """

    def __init__(self, services: Services, task: str, container: str, folder: Path, known: KnownObjects) -> None:
        self._services = services
        self._task = task
        self._container = container
        self._known = known
        self._call_log, self._job_log = _Growing(folder / CALL_LOG), _Growing(folder / JOB_LOG)
        self._reader = CallReader()
        self._calls: list[Call] = []
        self._jobs: list[Job] = []
        self._began: float | None = None  # with its first call: what comes before takes the time of no object
        self._units: tuple[int, int] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {task}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=_EVERY)

    def count(self, done: int, total: int) -> None:
        """Take what the build tool says of itself: so many files of all."""
        self._units = (done, total)

    def _run(self) -> None:
        while not self._over.wait(_EVERY):
            try:
                told = self._look()
            except OSError:
                continue  # the folder has gone, or cannot be read: the compile says so itself
            if told is not None and not self._over.is_set():
                self._services.events(told)

    def _look(self) -> Compiling | None:
        for line in self._call_log.lines():
            self._calls.extend(self._reader.feed(line))
        self._jobs.extend(read_jobs(self._job_log.lines()))
        calls = [*self._calls, *self._reader.rest()]
        load = self._load()
        if not calls and not (load is not None and load.jobs):
            return None
        now = self._services.now()
        if calls and self._began is None:
            self._began = now - _EVERY
        rates = hit_rates(calls, self._jobs, self._known)
        total = rates.total
        units_left = None if self._units is None else self._units[1] - self._units[0]
        ended = (call.object for call in calls if call.outcome is not Outcome.OTHER)
        return Compiling(
            self._task,
            total.hits,
            total.misses,
            saved=total.saved if total.rate is not None else None,
            compiled=total.compiled,
            left=seconds_left(self._known, ended, now - self._began, units_left) if self._began is not None else None,
            jobs=load.jobs if load is not None else None,
            waiting=load.waiting if load is not None else None,
            memory=load.memory if load is not None else None,
            memory_limit=load.memory_limit if load is not None else None,
        )

    def _load(self) -> ContainerLoad | None:
        try:
            return self._services.engine.load(self._container)
        except ImagetiersError:
            return None  # it has ended, or the engine has gone, which whoever follows it meets, too


class _Growing:
    """A file to which others append: the lines that were added since the last look, whole ones only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def lines(self) -> list[str]:
        """Return them. Raises OSError; none where there is no file yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read(_AT_ONCE)
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return [line.decode(errors="replace") for line in whole.split(b"\n")[:-1]]
