"""Try again, but not for ever: exponential backoff with full jitter and a bound on the total time.

Every wait of this process that is no wait for an answer goes through `pause`, so that all of them end when it is asked to
stop. That is one flag for the process, as a signal is one for it.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from imagetiers.errors import ImagetiersError

__all__ = ["RetryDecision", "RetryPolicy", "ask_to_stop", "asked_to_stop", "jitter", "pause", "retry"]

_Result = TypeVar("_Result")
_SLICE = 0.25
_LAST = (
    1.0  # seconds after somebody has asked to stop in which short pauses are still made: a last push may win its race
)
_SHORT = 0.1
_random = random.Random()  # noqa: S311  of our own: a program that seeds the shared one would let all of us wait alike


@dataclass
class _Stop:
    """That this process was asked to stop, and when (monotonic seconds)."""

    asked: threading.Event = field(default_factory=threading.Event)
    at: float = 0.0


_stop = _Stop()


def ask_to_stop() -> None:
    """End all pauses; for a signal's handler."""
    _stop.at = time.monotonic()
    _stop.asked.set()


def asked_to_stop() -> bool:
    """Say whether this process was asked to stop."""
    return _stop.asked.is_set()


def jitter(most: float) -> float:
    """Return a pause of 0 to `most` seconds, so that those who met once do not meet again."""
    return _random.uniform(0, most)


def pause(seconds: float) -> bool:
    """Wait. False: somebody has asked to stop, and there is no time for another try."""
    if not _stop.asked.wait(seconds):
        return True
    if time.monotonic() - _stop.at > _LAST:
        return False
    time.sleep(min(seconds, _SHORT))
    return True


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait and how often; all in seconds.

    The n-th pause is random in 0 .. min(`most`, `first` * 2**(n-1)); after "too many requests" at least `throttled`
    plus up to as much again. No new try starts when `total` would be over by then. `connect` and `answer` bound the wait for a
    connection and for an answer; content has to move with `lowest` bytes a second, over each `window` seconds and more.
    """

    first: float = 0.25
    most: float = 16.0
    total: float = 120.0
    throttled: float = 1.0  # GCS takes 1 write a second to one object name
    connect: float = 10.0
    answer: float = 60.0
    lowest: float = 16_384.0
    window: float = 10.0

    def pause(self, tries: int, *, throttled: bool) -> float:
        """Return how long to wait after so many failed tries."""
        pause = jitter(min(self.most, self.first * 2 ** min(tries - 1, 30)))
        return max(pause, self.throttled + jitter(self.throttled)) if throttled else pause


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What an exception means: the error for the caller, and how many tries it is worth in all (None: no limit).

    `after` is for how many seconds the server asks not to be asked again.
    """

    error: ImagetiersError
    tries: int | None = 1
    throttled: bool = False
    after: float = 0.0


def retry(
    policy: RetryPolicy,
    attempt: Callable[[], _Result],
    judge: Callable[[Exception], RetryDecision],
    hurried: Callable[[], bool] = asked_to_stop,
) -> _Result:
    """Call `attempt` until it succeeds. An error of ours that it raises goes through as it is.

    Raises the error that `judge` gives, when the tries that it allows are used up or `policy.total` seconds are over, or
    `hurried` says that somebody asked to stop.
    """
    started, tries = time.monotonic(), 0
    while True:
        tries += 1
        try:
            return attempt()
        except ImagetiersError:
            raise
        except Exception as error:  # the judge knows every kind, and gives back what it does not know as fatal
            judgement = judge(error)
            if judgement.tries == 1:
                raise judgement.error from error
            seconds = max(policy.pause(tries, throttled=judgement.throttled), judgement.after)
            spent = time.monotonic() - started
            if spent + seconds > policy.total or tries == judgement.tries or not _paused(seconds, hurried):
                raise _given_up(judgement.error, tries, spent) from error


def _paused(seconds: float, hurried: Callable[[], bool]) -> bool:
    """Wait; say whether nobody asked to stop meanwhile."""
    slices = max(1, math.ceil(seconds / _SLICE))
    for _ in range(slices):
        if hurried():
            return False
        time.sleep(seconds / slices)
    return not hurried()


def _given_up(error: ImagetiersError, tries: int, seconds: float) -> ImagetiersError:
    return type(error)(*(replace(p, what=f"{p.what} (tried {tries} x in {seconds:.0f} s)") for p in error.problems))
