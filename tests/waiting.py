"""How long the tests wait for what comes at once on a quiet machine: nothing fails here because the machine is busy.

What comes late is no fault; what does not come within `PATIENCE` hangs. A test that says something of seconds says it of a
limit that the product sets (`--timeout` and the like), never of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")

PATIENCE = 900.0
"""Seconds. What took longest so far, a compile on a machine that was several times too busy, took 235."""


def wait_until(done: Callable[[], _Found], state: Callable[[], object] = str, *, pause: float = 0.05) -> _Found:
    """Look every `pause` seconds until `done` returns something; return that. What hangs fails with what `state` tells."""
    end = time.monotonic() + PATIENCE
    while not (found := done()):
        assert time.monotonic() < end, state()
        time.sleep(pause)
    return found
