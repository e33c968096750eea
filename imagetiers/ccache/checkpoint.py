"""Checkpoints: what a compile has won is pushed while it runs, so that a worker killed in hour 3 costs minutes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from imagetiers.ccache.push import PushResult
from imagetiers.errors import ImagetiersError

__all__ = ["CheckpointReport", "Checkpointer", "Pusher"]


class Pusher(Protocol):
    """A `push.push` with everything bound but how the run stands."""

    def __call__(self, *, good: bool, checkpoint: bool) -> PushResult:
        """Push now."""
        ...


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """What became of a run's pushes: the last one's result (None when it failed), how many before, and failures.

    `stored_bytes` are those that all of them have uploaded for entries.
    """

    final: PushResult | None
    checkpoints: int
    failures: tuple[str, ...]
    stored_bytes: int = 0


class Checkpointer:
    """A thread that pushes every `interval` seconds and on demand. No failure of a push ever reaches the compile.

    Use it as a context manager around the compile; call `close(good=True)` when the compile ended well. Leaving the
    context without that (a failure, Ctrl-C, SIGTERM turned into an exception) does the last push as a partial one.
    """

    def __init__(
        self, push: Pusher, *, interval: float = 300.0, report: Callable[[str], None] = lambda _line: None
    ) -> None:
        self._push = push
        self._interval = interval
        self._report = report
        self._wake = threading.Event()
        self._closing = False
        self._checkpoints = 0
        self._stored_bytes = 0
        self._failures: list[str] = []
        self._closed: CheckpointReport | None = None
        self._close_lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="ccache-checkpoint", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close(good=False)

    def now(self) -> None:
        """Ask for a checkpoint at once; returns immediately."""
        self._wake.set()

    def close(self, *, good: bool) -> CheckpointReport:
        """Stop, do the last push, report. `good`: the compile ended well. A second call returns the first's report."""
        with self._close_lock:
            if self._closed is None:
                self._closing = True
                self._wake.set()
                if self._thread.is_alive():
                    self._thread.join()
                final = self._try(good=good, checkpoint=False)
                self._closed = CheckpointReport(final, self._checkpoints, tuple(self._failures), self._stored_bytes)
            return self._closed

    def _loop(self) -> None:
        while True:
            self._wake.wait(self._interval)
            if self._closing:
                return
            self._wake.clear()
            if self._try(good=False, checkpoint=True) is not None:
                self._checkpoints += 1

    def _try(self, *, good: bool, checkpoint: bool) -> PushResult | None:
        what = "checkpoint" if checkpoint else "push"
        try:
            result = self._push(good=good, checkpoint=checkpoint)
        except ImagetiersError as error:
            self._fail(f"{what} failed: {error}")
        except Exception as error:  # noqa: BLE001  a bug here must not cost the compile; it is said, not hidden
            self._fail(f"{what} failed: {type(error).__name__}: {error}")
        else:
            self._stored_bytes += result.stored_bytes
            self._report(f"{what}: {result}")
            return result
        return None

    def _fail(self, line: str) -> None:
        self._failures.append(line)
        self._report(line)
