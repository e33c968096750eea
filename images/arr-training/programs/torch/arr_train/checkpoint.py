"""checkpoint.pt: all that a training needs to go on as if it had never been interrupted."""

import dataclasses
import os
import pathlib
from typing import Any

import torch

NAME = "checkpoint.pt"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state after so many steps of the training that `run` describes."""

    step: int
    run: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any]


def save(folder: pathlib.Path, checkpoint: Checkpoint) -> None:
    """It has its name only once it is whole; the one before it stays until then."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{NAME}.new"
    with new.open("wb") as file:
        torch.save({field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / NAME)


def load(folder: pathlib.Path, device: str) -> Checkpoint | None:
    """The checkpoint in the folder, if there is one. Only tensors and plain values are read: it may come from elsewhere."""
    path = folder / NAME
    if not path.exists():
        return None
    return Checkpoint(**torch.load(path, map_location=device, weights_only=True))
