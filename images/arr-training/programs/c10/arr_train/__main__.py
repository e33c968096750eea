"""python3 -m arr_train: fit a line by gradient descent and write what was learned to a file."""

import argparse
import json
import os
import pathlib
import sys

from arr_train import backend, problem

#: Between two lines of output.
STEPS_PER_LINE = 50


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="arr_train", description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.1, help="learning rate")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, help="folder for result.json")
    return parser


def write(folder: pathlib.Path, result: dict) -> None:
    """A result has its name only once it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / ".result.json.new"
    new.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(new, folder / "result.json")


def main() -> int:
    """Train."""
    options = parser().parse_args()
    data = problem.points(options.points, options.noise, options.seed)
    line, done = backend.start(), 0
    print(f"{backend.NAME}: {options.steps} steps over {options.points} points", flush=True)
    while done < options.steps:
        count = min(STEPS_PER_LINE, options.steps - done)
        try:
            line = backend.advance(line, data.x, data.y, count, options.rate)
        except ValueError as error:
            print(f"arr_train: {error}", file=sys.stderr)
            return 1
        done += count
        print(f"step {done}: loss {line.loss:.5f}, y = {line.weight:.4f} x + {line.bias:.4f}", flush=True)
    if options.out:
        result = {"backend": backend.NAME, "steps": done, "weight": line.weight, "bias": line.bias, "loss": line.loss}
        write(options.out, result)
    return 0


sys.exit(main())
