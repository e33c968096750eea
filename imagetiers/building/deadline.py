"""A time limit that ends a compile in order, before whoever runs doit (a step of Cloud Build) ends it without a word."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imagetiers.errors import BuildError, Problem
from imagetiers.stores.limited import LimitedStore
from imagetiers.stores.port import Store

__all__ = ["Deadline"]

_SHARE = 0.2
_RESERVE = 120.0


class Deadline:
    """`seconds` from now, for everything; None = never. What runs is stopped a little earlier, so that it can be stored.

    That is a fifth of the time, at most two minutes: for the container to end, and for the last push.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.reached = False
        self._end = time.monotonic() + seconds if seconds is not None else None
        self._reserve = min(seconds * _SHARE, _RESERVE) if seconds is not None else 0.0

    def left(self) -> float:
        """Return how many seconds are left in all."""
        return math.inf if self._end is None else self._end - time.monotonic()

    def limited(self, store: Store) -> Store:
        """Return the store as one that is waited for no longer than this."""
        return store if self._end is None else LimitedStore(store, self.left)

    def check(self, task: str) -> None:
        """Raise BuildError when the time is over."""
        if self.reached or self.left() <= self._reserve:
            self.reached = True
            raise self.error(task)

    def error(self, task: str) -> BuildError:
        """Make the error of a task that was out of time."""
        hint = "run it again: it goes on with what ccache has kept; or give it more time"
        return BuildError(Problem(task, f"was not done after {self.seconds:.0f} s and was stopped", hint))

    @contextmanager
    def stops(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the block runs, call `stop` (from another thread) when the time is over."""
        if self._end is None:
            yield
            return

        def over() -> None:
            self.reached = True
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
