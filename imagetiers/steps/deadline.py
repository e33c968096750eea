"""A time limit that ends a compile in order, before whoever runs doit (a step of Cloud Build) ends it without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Deadline"]


class Deadline:
    """`seconds` from now; None = never."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.reached = False
        self._end = time.monotonic() + seconds if seconds is not None else None

    @contextmanager
    def stops(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the block runs, call `stop` (from another thread) when the time is over."""
        if self._end is None:
            yield
            return

        def over() -> None:
            self.reached = True
            stop()

        timer = threading.Timer(max(0.0, self._end - time.monotonic()), over)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if self.reached:
                timer.join()
