"""Wait for a call for so long and no longer, whatever it is doing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["answer_within"]

_Answer = TypeVar("_Answer")


def answer_within(seconds: float, call: Callable[[], _Answer]) -> _Answer:
    """Return what the call returns, or raise what it raises. Raises queue.Empty when it takes longer.

    It runs in a thread that ends with the process, so a call that was left behind may still be done.
    """
    answers: SimpleQueue[tuple[_Answer] | BaseException] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(),))
        except BaseException as error:  # noqa: BLE001  whatever it is, it is raised where it was asked
            answers.put(error)

    threading.Thread(target=work, name="patience", daemon=True).start()
    answer = answers.get(timeout=seconds)
    if isinstance(answer, BaseException):
        raise answer
    return answer[0]
