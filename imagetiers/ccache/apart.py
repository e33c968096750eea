"""Work on a namespace of others, in a process of its own with bounds on memory and time.

Housekeeping by a trusted build reads what pull requests have written. Every reader has bounds; this is for what they
miss: whatever such a namespace does to the process that reads it, the other namespaces' turn comes, and nothing but
text comes back.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from imagetiers.errors import ImagetiersError, Problem, StoreError

__all__ = ["MEMORY", "Report", "apart"]

MEMORY = 1 << 30
"""Bytes that the process may have besides what Python itself needs."""

_SECONDS = 3600.0
_MESSAGE_MAX = 1 << 20
_BASE = 256 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, as a text, and a line for each thing that is bad."""

    text: str
    bad: tuple[str, ...] = ()


def apart(namespace: str, work: Callable[[], Report], *, memory: int = MEMORY, seconds: float = _SECONDS) -> Report:
    """Run `work` (which can be pickled) in a process of its own. Raises StoreError: its own, or that it came to no end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, work, memory), daemon=True)
    process.start()
    theirs.close()
    try:
        message = b""
        if ours.poll(seconds):
            with contextlib.suppress(EOFError, OSError):
                message = ours.recv_bytes(_MESSAGE_MAX)
        else:
            raise StoreError.of(namespace, f"was left alone: it took more than {seconds:.0f} s")
    finally:
        process.join(1.0 if process.exitcode is None else 0.0)
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()
    return _read(namespace, message, process.exitcode)


def _read(namespace: str, message: bytes, exit_code: int | None) -> Report:
    try:
        value: dict[str, Any] = json.loads(message)
    except ValueError:
        raise StoreError.of(namespace, f"was left alone: the process that read it ended with {exit_code}") from None
    if "problems" in value:
        problems = [Problem(*map(str, problem)) for problem in value["problems"]]
        raise StoreError(*(replace(problem, where=problem.where or namespace) for problem in problems))
    return Report(str(value["text"]), tuple(map(str, value["bad"])))


def _run(answer: Connection, work: Callable[[], Report], memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked for this ends it
    resource.setrlimit(resource.RLIMIT_DATA, (_BASE + memory, _BASE + memory))
    value: dict[str, Any]
    try:
        report = work()
        value = {"text": report.text, "bad": report.bad[:1000]}
    except ImagetiersError as error:
        value = {"problems": [[p.where, p.what, p.hint] for p in error.problems[:1000]]}
    except MemoryError:
        value = {"problems": [["", f"was left alone: it takes more than {memory >> 20} MiB to read it", ""]]}
    except Exception as error:  # noqa: BLE001  one namespace's trouble is reported, and the others' turn comes
        value = {"problems": [["", f"was left alone: {type(error).__name__}: {error}"[:1000], ""]]}
    answer.send_bytes(json.dumps(value).encode()[:_MESSAGE_MAX])
    answer.close()
