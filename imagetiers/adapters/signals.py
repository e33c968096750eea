"""Ctrl-C and SIGTERM: ask everything that runs to stop, and unwind the main thread."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from imagetiers.retry import ask_to_stop

__all__ = ["SignalCancellation"]

_CLEAN_UP_SECONDS = 30.0


class SignalCancellation:
    """The real Cancellation. After `install`, SIGTERM is a Ctrl-C, and neither ends in a traceback."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._stops: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)

    @property
    def requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._requested.is_set()

    @contextlib.contextmanager
    def on_request(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the block runs, call `stop` from another thread when somebody asks to stop."""
        number = next(self._numbers)
        with self._lock:
            self._stops[number] = stop
        if self.requested:
            stop()
        try:
            yield
        finally:
            with self._idle:
                self._stops.pop(number, None)
                self._idle.notify_all()

    def request(self) -> None:
        """Ask everything that runs to stop."""
        self._requested.set()
        with self._lock:
            stops = list(self._stops.values())
        for stop in stops:
            # A thread each: a container takes seconds to stop, and the next one must not wait for it.
            threading.Thread(target=stop, daemon=True).start()

    def _wait_for_the_others(self) -> None:
        # In doit's thread mode the main thread ends at once, and its worker threads with it; theirs is still to clean up.
        if self.requested:
            with self._idle:
                self._idle.wait_for(lambda: not self._stops, timeout=_CLEAN_UP_SECONDS)

    def install(self) -> None:
        """Take over SIGINT and SIGTERM; only in the main thread of a program."""
        if threading.current_thread() is not threading.main_thread():
            return

        def handler(_number: int, _frame: FrameType | None) -> None:
            # Not under the lock: the interrupted line may hold it.
            threading.Thread(target=self.request, daemon=True).start()
            self._requested.set()
            ask_to_stop()
            raise KeyboardInterrupt

        atexit.register(self._wait_for_the_others)
        signal.signal(signal.SIGINT, handler)
        signal.signal(signal.SIGTERM, handler)
        previous = sys.excepthook

        def quiet(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
            if issubclass(kind, KeyboardInterrupt):
                sys.stderr.write("\ninterrupted: what is done is kept; run doit again to go on\n")
                return
            previous(kind, value, trace)

        sys.excepthook = quiet
