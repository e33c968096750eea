"""Seconds of a build by part, from the headings that it prints."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Stopwatch"]


class Stopwatch:
    """Splits a time into phases: each call of `lap` names what went on since the one before."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.began = self._last = now()
        self.phases: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        """Say what the time since the last lap was spent on."""
        now = self._now()
        self.phases[phase] = self.phases.get(phase, 0.0) + now - self._last
        self._last = now

    @property
    def seconds(self) -> float:
        """All of it so far."""
        return self._now() - self.began
