"""Gradient descent by torch, on a GPU where there is one."""

import numpy
import torch

from arr_train.line import Line

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAME = f"torch {torch.__version__} on {DEVICE}"


def start() -> Line:
    """Nothing is known."""
    return Line(0.0, 0.0, float("inf"))


def advance(line: Line, x: numpy.ndarray, y: numpy.ndarray, steps: int, rate: float) -> Line:
    """Go a number of steps down the gradient."""
    inputs, targets = torch.from_numpy(x).to(DEVICE), torch.from_numpy(y).to(DEVICE)
    parameters = torch.tensor([line.weight, line.bias], device=DEVICE, requires_grad=True)
    optimizer = torch.optim.SGD([parameters], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(parameters[0] * inputs + parameters[1], targets)
        loss.backward()
        optimizer.step()
    if not torch.isfinite(loss):
        raise ValueError(f"the loss is {loss.item()} after {steps} steps: the rate {rate} is too high")
    weight, bias = parameters.tolist()
    return Line(weight, bias, loss.item())
