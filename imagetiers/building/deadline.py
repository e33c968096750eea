"""A time limit that ends a task gracefully, before whoever runs doit (a step of Cloud Build) ends it without a word."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import TypeVar

from imagetiers.building.limited_engine import LimitedEngine
from imagetiers.errors import BuildError, ImagetiersError, Problem
from imagetiers.patience import answer_within
from imagetiers.services import Engine
from imagetiers.stores.limited import LimitedStore
from imagetiers.stores.port import Store

__all__ = ["COMPILE_HINT", "UNCACHED_HINT", "Deadline"]

COMPILE_HINT = "run it again: it resumes with what ccache has kept; or give it more time"
UNCACHED_HINT = "run it again, and give it more time"
_LONGEST = 1e9  # seconds; no timer takes much more
_OVERTIME = 30.0  # seconds: a container has ten to end
_SHARE = 0.2
_RESERVE = 120.0
_Answer = TypeVar("_Answer")


class Deadline:
    """`seconds` from now, for everything; None = never. What runs is stopped a little earlier, so that it can be stored.

    That is a fifth of the time, at most `reserve` seconds: for the container to end, and for the last push. `kind` and `hint`
    are of the error that tells it.
    """

    def __init__(
        self,
        seconds: float | None,
        *,
        reserve: float = _RESERVE,
        kind: type[ImagetiersError] = BuildError,
        hint: str = COMPILE_HINT,
    ) -> None:
        self.seconds = seconds = None if seconds is None else min(seconds, _LONGEST)
        self.reached = False
        self._kind = kind
        self._hint = hint
        self._end = time.monotonic() + seconds if seconds is not None else None
        self._reserve = min(seconds * _SHARE, reserve) if seconds is not None else 0.0

    def left(self) -> float:
        """Return how many seconds are left in all."""
        return math.inf if self._end is None else self._end - time.monotonic()

    def for_work(self) -> float | None:
        """Return how many seconds are left before what runs is stopped; None for any number."""
        return None if self._end is None else max(0.0, self.left() - self._reserve)

    def within(self, task: str, call: Callable[[], _Answer]) -> _Answer:
        """Return what the call returns, or raise what it raises; the error of the task when it takes too long.

        It runs in a thread that ends with the process then, so it must leave nothing behind.
        """
        seconds = self.for_work()
        if seconds is None:
            return call()
        self.check(task)
        try:
            return answer_within(seconds, call)
        except Empty:
            self.reached = True
            raise self.error(task) from None

    def to_the_end(self, call: Callable[[], _Answer]) -> _Answer:
        """Return what a call returns that `stops` ends, or raise what it raises.

        Raises TimeoutError when it has not ended half a minute after all of the time was over.
        """
        if self._end is None:
            return call()
        try:
            return answer_within(max(0.0, self.left()) + _OVERTIME, call)
        except Empty:
            raise TimeoutError from None

    def limited(self, store: Store) -> Store:
        """Return the store as one that is waited for no longer than this."""
        return store if self._end is None else LimitedStore(store, self.left)

    def limited_engine(self, engine: Engine, task: str) -> Engine:
        """Return the engine as one whose answers are waited for no longer than this."""
        if self._end is None:
            return engine

        def over() -> ImagetiersError:
            self.reached = True
            return self.error(task, ": the Docker daemon did not answer")

        return LimitedEngine(engine, self.left, over)

    def check(self, task: str) -> None:
        """Raise the task's error when the time is over."""
        if self.reached or self.left() <= self._reserve:
            self.reached = True
            raise self.error(task)

    def error(self, task: str, told: str = "") -> ImagetiersError:
        """Make the error of a task that was out of time; `told` is what else there is to say."""
        return self._kind(Problem(task, f"was not done after {self.seconds:.0f} s and was stopped{told}", self._hint))

    @contextmanager
    def stops(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the block runs, call `stop` (from another thread) when the time is over."""
        if self._end is None:
            yield
            return

        def over() -> None:
            self.reached = True
            with contextlib.suppress(ImagetiersError):  # whoever follows what runs learns that it does not end
                stop()

        timer = threading.Timer(max(0.0, self.left() - self._reserve), over)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if self.reached:
                timer.join()
