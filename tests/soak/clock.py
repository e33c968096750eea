"""The clock seam: what `time` tells the code under test.

Wall clocks of machines differ (`skew`) and jump when a machine was asleep; a monotonic clock stands still meanwhile.
The store's own time is the true one, without skew. `installed` puts a clock in the place of the functions of `time`.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from imagetiers.ccache.namespace import Namespace

_REAL_TIME, _REAL_SLEEP, _REAL_MONOTONIC = time.time, time.sleep, time.monotonic
START = 1_800_000_000.0


class Clock(Protocol):
    """Seconds, as the functions of `time` of the same names."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class VirtualClock:
    """A clock that only moves when it is told to: no second of a simulation is a real one."""

    def __init__(self) -> None:
        self.now = START
        self.skew = 0.0
        self._slept = 0.0

    def time(self) -> float:
        self.now += 1e-5  # no two readings are the same, as on a machine
        return self.now + self.skew

    def monotonic(self) -> float:
        return self.time() - self.skew - self._slept

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def suspend(self, seconds: float) -> None:
        """Let the machines sleep: wall clocks go on, monotonic ones stand still."""
        self.now += seconds
        self._slept += seconds


class SharedClock:
    """Real time plus an offset that all processes of a soak share by a file; sleeping is `scale` times as fast."""

    def __init__(self, path: Path, *, skew: float = 0.0, scale: float = 1.0) -> None:
        if not path.exists():
            path.write_bytes(struct.pack("d", 0.0))
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), 8)
        self.skew, self._scale = skew, scale

    @property
    def offset(self) -> float:
        return float(struct.unpack("d", self._map[:8])[0])

    def suspend(self, seconds: float) -> None:
        """Let so much time pass for everybody; monotonic clocks stand still, as if all machines had slept."""
        self._map[:8] = struct.pack("d", self.offset + seconds)

    def time(self) -> float:
        return _REAL_TIME() + self.offset + self.skew

    def monotonic(self) -> float:
        return _REAL_MONOTONIC()

    def sleep(self, seconds: float) -> None:
        _REAL_SLEEP(seconds / self._scale)


def _speaking_for(clock: Clock, defaults: tuple[Any, ...] | None) -> tuple[Any, ...]:
    return tuple(clock.sleep if value is _REAL_SLEEP else value for value in defaults or ())


@contextlib.contextmanager
def installed(clock: Clock) -> Iterator[None]:
    """Let `time` speak with this clock's voice for the block."""

    def time_ns() -> int:
        return int(clock.time() * 1e9)

    with (
        mock.patch.object(time, "time", clock.time),
        mock.patch.object(time, "time_ns", time_ns),
        mock.patch.object(time, "monotonic", clock.monotonic),
        mock.patch.object(time, "sleep", clock.sleep),
        # A default was taken from `time` when its function was made.
        mock.patch.object(Namespace.__init__, "__defaults__", _speaking_for(clock, Namespace.__init__.__defaults__)),
    ):
        yield
