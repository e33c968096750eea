"""The loop: from nothing, or from a checkpoint, to result.json."""

import dataclasses
import json
import os
import pathlib
import signal
import time
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from arr_train import checkpoint, model, shapes, tracking

_STEPS_PER_LINE = 20
#: What a shell gives for a program that SIGTERM has ended.
TERMINATED = 128 + signal.SIGTERM


class CannotTrain(Exception):
    """What is wrong with the options, the machine or the checkpoint, in one line."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What decides the outcome of a training. A checkpoint belongs to one of these; only `steps` may differ."""

    steps: int
    batch: int
    rate: float
    images: int
    tests: int
    seed: int
    checkpoint_every: int

    def __post_init__(self) -> None:
        """Raises CannotTrain."""
        for field in ("steps", "batch", "images", "tests", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise CannotTrain(f"--{field.replace('_', '-')} must be at least 1")
        if self.batch > self.images:
            raise CannotTrain(f"--batch {self.batch} is more than all --images {self.images}")


class Order(Sampler[list[int]]):
    """The batches from one step to another: another order in each epoch, and the same one whenever it is asked for."""

    def __init__(self, run: Run, first: int) -> None:
        self._run, self._first = run, first

    def __len__(self) -> int:
        """Batches still to come."""
        return self._run.steps - self._first

    def __iter__(self) -> Iterator[list[int]]:
        """Number the images of each batch."""
        batches = self._run.images // self._run.batch
        epoch, order = -1, torch.empty(0)
        for step in range(self._first, self._run.steps):
            if step // batches != epoch:
                epoch = step // batches
                order = torch.randperm(
                    self._run.images, generator=torch.Generator().manual_seed(self._run.seed + epoch)
                )
            start = step % batches * self._run.batch
            yield order[start : start + self._run.batch].tolist()


def train(run: Run, log: tracking.Log, *, device: str, folder: pathlib.Path | None, fresh: bool) -> int:
    """Train to the end or until SIGTERM; return the exit code. Raises CannotTrain."""
    device = choose(device)
    name = f"torch {torch.__version__} on {torch.cuda.get_device_name() if device == 'cuda' else 'cpu'}"
    torch.manual_seed(run.seed)
    net = model.shape_net(len(shapes.CLASSES)).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=run.rate)
    first = 0 if fresh or folder is None else restore(run, folder, device, net, optimizer)
    print(f"{name}: steps {first + 1} to {run.steps}, {run.batch} of {run.images} images each", flush=True)

    stopped: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    began, loss, step = time.monotonic(), float("nan"), first
    try:
        for step, (images, labels) in enumerate(loader(run, first), first + 1):
            loss = advance(net, optimizer, images.to(device), labels.to(device))
            if step % _STEPS_PER_LINE == 0 or step == run.steps:
                log(step, {"loss": loss, "images_per_second": (step - first) * run.batch / (time.monotonic() - began)})
            if folder is not None and (stopped or step % run.checkpoint_every == 0 or step == run.steps):
                keep(run, folder, step, net, optimizer)
            if stopped:
                print(f"arr_train: told to stop after step {step}", flush=True)
                return TERMINATED
    finally:
        signal.signal(signal.SIGTERM, previous)
    right = judge(net, run, device)
    log(step, {"accuracy": right})
    if folder is not None:
        write(folder, {"backend": name, "steps": step, "first": first, "loss": loss, "accuracy": right})
    return 0


def choose(device: str) -> str:
    """The device to train on."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CannotTrain("--device cuda: this torch finds no GPU")
    return device


def loader(run: Run, first: int) -> DataLoader:
    """The images, drawn in this process: in a container, workers would need more shared memory than Docker gives."""
    data: Dataset = shapes.Shapes(run.images, run.seed)
    return DataLoader(data, batch_sampler=Order(run, first), num_workers=0)


def advance(net: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> float:
    """One step; return the loss before it. Raises CannotTrain when it is no number any more."""
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(images), labels)
    loss.backward()
    optimizer.step()
    value = loss.item()
    if value != value:  # noqa: PLR0124  the one number that is not equal to itself
        raise CannotTrain("the loss is not a number any more: the rate is too high")
    return value


def judge(net: nn.Module, run: Run, device: str) -> float:
    """The accuracy on images that were not learned from."""
    net.eval()
    tests = DataLoader(shapes.Shapes(run.tests, run.seed + 1_000_003), batch_size=run.tests)
    with torch.inference_mode():
        images, labels = next(iter(tests))
        right = model.accuracy(net(images.to(device)), labels.to(device))
    net.train()
    return right


def keep(run: Run, folder: pathlib.Path, step: int, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint."""
    state = checkpoint.Checkpoint(step, dataclasses.asdict(run), net.state_dict(), optimizer.state_dict())
    checkpoint.save(folder, state)


def restore(run: Run, folder: pathlib.Path, device: str, net: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Take over the folder's checkpoint, if there is one; return how many steps it has done. Raises CannotTrain."""
    hint = "--fresh begins anew"
    try:
        found = checkpoint.load(folder, device)
    except Exception as error:
        raise CannotTrain(f"{folder / checkpoint.NAME} cannot be read ({error}); {hint}") from error
    if found is None:
        return 0
    wanted = dataclasses.asdict(run)
    other = [
        f"{name} {found.run.get(name)}" for name in wanted if name != "steps" and found.run.get(name) != wanted[name]
    ]
    if other:
        raise CannotTrain(f"{folder / checkpoint.NAME} is of another training ({', '.join(other)}); {hint}")
    if found.step > run.steps:
        raise CannotTrain(f"{folder / checkpoint.NAME} has done {found.step} steps already; {hint}")
    net.load_state_dict(found.model)
    optimizer.load_state_dict(found.optimizer)
    print(f"arr_train: goes on after step {found.step}, from {folder / checkpoint.NAME}", flush=True)
    return found.step


def write(folder: pathlib.Path, result: dict[str, object]) -> None:
    """A result has its name only once it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / ".result.json.new"
    new.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(new, folder / "result.json")
