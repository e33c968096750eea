"""Where the numbers go: to stdout, and to Weights & Biases where the environment names a project."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

#: Takes the step and its numbers.
Log = Callable[[int, Mapping[str, float]], None]


def show(step: int, numbers: Mapping[str, float]) -> None:
    """One line a step."""
    print(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in numbers.items()), flush=True)


@contextlib.contextmanager
def tracker(run: Any) -> Iterator[Log]:
    """Yield what logs. wandb is imported only where it is used: a training must not depend on it."""
    if not os.environ.get("WANDB_PROJECT"):
        yield show
        return
    import wandb

    with wandb.init(config=dataclasses.asdict(run), resume="allow") as remote:

        def both(step: int, numbers: Mapping[str, float]) -> None:
            show(step, numbers)
            remote.log(dict(numbers), step=step)

        yield both
