"""Wait for a call for so long and no longer, whatever it is doing; and let nobody who is interrupted wait for threads.

Threads here end with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Background", "answer_within", "begin", "in_parallel"]

_ENDING = 30.0
"""Seconds that what goes on in the background has for its end: a container has ten to stop, and must be removed."""

_In = TypeVar("_In")
_Answer = TypeVar("_Answer")


def answer_within(seconds: float, call: Callable[[], _Answer]) -> _Answer:
    """Return what the call returns, or raise what it raises. Raises queue.Empty when it takes longer.

    It runs in a thread that ends with the process, so a call that was left behind may still be done.
    """
    return begin(call)(seconds)


def begin(call: Callable[[], _Answer]) -> Callable[[float | None], _Answer]:
    """Begin a call in a thread that ends with the process. What comes back waits so many seconds for it (None: any number).

    It returns what the call returns, or raises what it raises. Raises queue.Empty when that takes longer.
    """
    answers: SimpleQueue[tuple[_Answer] | BaseException] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(),))
        except BaseException as error:  # noqa: BLE001  whatever it is, it is raised where it was asked
            answers.put(error)

    def wait(seconds: float | None) -> _Answer:
        answer = answers.get(timeout=seconds)
        if isinstance(answer, BaseException):
            raise answer
        return answer[0]

    threading.Thread(target=work, name="patience", daemon=True).start()
    return wait


def in_parallel(call: Callable[[_In], _Answer], items: Iterable[_In], threads: int) -> list[_Answer]:
    """Return what the call returns for each item, in order; raise what the first one raises that fails.

    The threads end with the process, so Ctrl-C and SIGTERM end this at once: those of a ThreadPoolExecutor are waited for,
    by its block and when Python ends, whatever they wait for.
    """
    waiting: SimpleQueue[tuple[int, _In]] = SimpleQueue()
    answers: SimpleQueue[tuple[int, _Answer] | BaseException] = SimpleQueue()
    count = 0
    for item in items:
        waiting.put((count, item))
        count += 1

    def work() -> None:
        while True:
            try:
                number, item = waiting.get_nowait()
            except Empty:
                return
            try:
                answers.put((number, call(item)))
            except BaseException as error:  # noqa: BLE001  whatever it is, it is raised where it was asked
                answers.put(error)

    for _ in range(min(threads, count)):
        threading.Thread(target=work, name="in-parallel", daemon=True).start()
    found: dict[int, _Answer] = {}
    while len(found) < count:
        answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        found[answer[0]] = answer[1]
    return [found[number] for number in range(count)]


class Background:
    """What goes on beside a doit's tasks. None of it outlives the doit: at its end it is stopped, or waited for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._going: dict[Future[Any], Callable[[], None]] = {}

    def begin(self, call: Callable[[], _Answer], stop: Callable[[], None] = lambda: None) -> Future[_Answer]:
        """Begin a call; `stop` (from another thread) ends it early. What it raises is the future's alone."""
        from concurrent.futures import Future  # noqa: PLC0415  only where something begins

        future: Future[_Answer] = Future()

        def work() -> None:
            try:
                answer = call()
            except BaseException as error:  # noqa: BLE001  whatever it is, it is raised where it is asked for
                future.set_exception(error)
            else:
                future.set_result(answer)
            with self._lock:
                del self._going[future]

        with self._lock:
            self._going[future] = stop
        threading.Thread(target=work, name="background", daemon=True).start()
        return future

    def end(self) -> None:
        """Stop what can be stopped, and wait for everything, half a minute at most."""
        with self._lock:
            going = dict(self._going)
        if going:
            from concurrent.futures import wait  # noqa: PLC0415

            for stop in going.values():
                stop()
            wait(going, _ENDING)
