"""Processes of a soak: one that has imported everything, and forks a process for each operation it is told.

It reads a line of JSON for each on stdin (a `Task`) and prints lines: `started ID PID`, `ended ID STATUS RSS-KIB`.
What came of an operation, the process writes into `<reports>/ID.json` before it ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from imagetiers.retry import RetryPolicy
from imagetiers.stores.gcs import GcsStore
from tests.soak.clock import SharedClock, installed
from tests.soak.operations import TRUSTED, Operation, perform
from tests.soak.server import BUCKET, PREFIX
from tests.soak.signatures import signing

POLICY = RetryPolicy(first=0.02, most=0.2, total=6.0, throttled=0.05, connect=2.0, answer=1.5, window=1.5)
"""Patience for a store on this machine: what is minutes in earnest is seconds here."""

SCALE = 20.0
"""Pauses are so many times shorter."""


@dataclass(frozen=True, slots=True)
class Task:
    """An operation, and where to do it: the machine's folder, its clock's error (s), the server's url."""

    number: int
    operation: Operation
    folder: str
    skew: float
    url: str

    def json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Task:
        value = json.loads(line)
        return cls(**{**value, "operation": Operation(**value["operation"])})


def _work(task: Task, reports: Path, clock_file: Path, keys: Path) -> None:
    faulthandler.enable()
    trace = (reports / f"{task.number}.trace").open("w")
    faulthandler.register(signal.SIGUSR1, trace, all_threads=True)
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    clock = SharedClock(clock_file, skew=task.skew, scale=SCALE)
    with installed(clock):
        bucket = GcsStore(BUCKET, PREFIX, endpoint=task.url, policy=POLICY, hurried=asked.is_set)
        op = task.operation
        store = signing(bucket, keys, op.machine, trusted=op.namespace == TRUSTED)
        report = perform(op, store, Path(task.folder), clock.time())
    temporary = reports / f"{task.number}.tmp"
    temporary.write_text(report.json())
    temporary.replace(reports / f"{task.number}.json")
    (reports / f"{task.number}.trace").unlink()


def _fork(task: Task, reports: Path, clock_file: Path, keys: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        _work(task, reports, clock_file, keys)
        status = 0
    except BaseException:  # noqa: BLE001  said on stderr, and by the status
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    reports, clock_file, keys = (Path(argument) for argument in sys.argv[1:])

    import imagetiers.stores.gcs_http  # noqa: F401, PLC0415

    running: dict[int, int] = {}
    buffer = b""
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        if readable:
            got = os.read(0, 1 << 16)
            if not got:
                break
            buffer += got
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                task = Task.from_json(line.decode())
                pid = _fork(task, reports, clock_file, keys)
                running[pid] = task.number
                print("started", task.number, pid, flush=True)  # noqa: T201
        while running:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                break
            print("ended", running.pop(pid), status, usage.ru_maxrss, flush=True)  # noqa: T201
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
