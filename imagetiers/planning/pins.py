"""What is pinned, and what it is by now: an outside image's digest, a git ref's commit. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PinState"]


@dataclass(frozen=True, slots=True)
class PinState:
    """A pinned reference: its pin, and what it was when it was looked up `at` (Unix seconds).

    `now` is '' where it is gone, None where nobody could tell, and `unknown` then says why.
    """

    ref: str
    pinned: str
    now: str | None
    at: float
    unknown: str = ""

    @property
    def moved(self) -> bool | None:
        """Whether it is not what it was pinned to; None where nobody can tell."""
        return None if self.now is None else self.now != self.pinned
