"""What can go wrong between a client and its store, as values. One seam applies them: nothing else is ever faulty.

In a simulation the seam is `seam.FaultyStore`, in a soak of processes it is the server (`server.SoakServer`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """One thing that goes wrong with one request. What it does to a store's answer stands beside it."""

    REFUSED = "refused"  # 503
    THROTTLED = "throttled"  # 429
    FORBIDDEN = "forbidden"  # a single 403
    MISSING = "missing"  # a single 404 for what is there
    PORTAL = "portal"  # 200 and a page of HTML
    RESET = "reset"  # the connection is reset before the request is served
    LOST_ANSWER = "lost answer"  # it is served, the answer is lost
    DUPLICATE = "duplicate"  # a proxy delivers it twice
    CUT = "cut"  # half of the body
    STALL = "stall"  # no answer for longer than anybody should wait
    DRIP = "drip"  # a byte now and then
    FLIP = "flip"  # one bit of the content is another, and no header tells
    FLIP_TOLD = "flip told"  # the same, with the true checksum in the header


FLIPS = frozenset({Fault.FLIP, Fault.FLIP_TOLD})


@dataclass(frozen=True, slots=True)
class Rates:
    """How many of 1 requests meet which fault; all kinds but flips share `faults`, both flips `flips`."""

    faults: float = 0.05
    flips: float = 0.01
    weights: Mapping[Fault, int] = field(
        default_factory=lambda: {
            Fault.REFUSED: 6,
            Fault.THROTTLED: 2,
            Fault.FORBIDDEN: 1,
            Fault.MISSING: 3,
            Fault.PORTAL: 2,
            Fault.RESET: 4,
            Fault.LOST_ANSWER: 4,
            Fault.DUPLICATE: 2,
            Fault.CUT: 3,
            Fault.STALL: 1,
            Fault.DRIP: 1,
        }
    )


class Draw:
    """Draws each request's fault, the same ones for the same seed, and counts them."""

    def __init__(self, seed: str, rates: Rates) -> None:
        self._random = random.Random(seed)
        self.rates = rates
        self.calls = 0
        self.counts: Counter[Fault] = Counter()

    def next(self, *, content: bool) -> Fault | None:
        """Return the next request's fault; only one that carries `content` can have a bit flipped."""
        self.calls += 1
        at = self._random.random()
        if at < self.rates.flips:
            fault = self._random.choice(sorted(FLIPS)) if content else None
        elif at < self.rates.flips + self.rates.faults:
            kinds = list(self.rates.weights)
            fault = self._random.choices(kinds, [self.rates.weights[kind] for kind in kinds])[0]
        else:
            fault = None
        if fault is not None:
            self.counts[fault] += 1
        return fault

    def flipped(self, data: bytes) -> bytes:
        """Return the bytes with one bit changed."""
        if not data:
            return data
        at = self._random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]
