"""What is learned: a line through noisy points."""

import dataclasses

import numpy

WEIGHT, BIAS = 3.0, -2.0


@dataclasses.dataclass(frozen=True)
class Points:
    """Samples of y = WEIGHT x + BIAS + noise, in float32."""

    x: numpy.ndarray
    y: numpy.ndarray


def points(count: int, noise: float, seed: int) -> Points:
    """The same seed gives the same points."""
    random = numpy.random.default_rng(seed)
    x = random.uniform(-1.0, 1.0, count).astype(numpy.float32)
    y = (WEIGHT * x + BIAS + random.normal(0.0, noise, count)).astype(numpy.float32)
    return Points(x, y)
