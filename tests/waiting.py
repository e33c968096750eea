"""How long the tests wait for what comes at once on a quiet machine: nothing fails here because the machine is busy.

What comes late is no fault; what does not come within `PATIENCE` hangs. A test that says something of seconds says it of a
limit that the product sets (`--timeout` and the like), never of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 900.0
"""Seconds, more than ten times what the longest of the small pipelines' builds has taken on the busiest machine."""


def wait_until(done: Callable[[], object], state: Callable[[], object] = str, *, pause: float = 0.05) -> None:
    """Wait until `done` says so, looking every `pause` seconds; what hangs fails with what `state` tells."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, state()
        time.sleep(pause)
