"""What is known so far."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Line:
    """y = weight x + bias, and the mean square error that it leaves."""

    weight: float
    bias: float
    loss: float
