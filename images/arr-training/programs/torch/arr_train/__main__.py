"""python3 -m arr_train: train a small vision model on images of shapes, on a GPU where there is one.

With --out, the folder gets result.json, and checkpoint.pt while it runs: a training that was interrupted goes on from
there and ends with the same weights. SIGTERM (what schedulers send before they take the machine) writes a checkpoint and ends
with exit code 143. With WANDB_PROJECT in the environment, what is printed goes to Weights & Biases too (WANDB_API_KEY, WANDB_MODE and the other
variables are wandb's own).
"""

import argparse
import pathlib
import sys

from arr_train import tracking, training


def parser() -> argparse.ArgumentParser:
    """The options."""
    description, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="arr_train", description=description, epilog=more)
    parser.add_argument(
        "--steps", type=int, default=300, help="how long to train: batches in all (default: %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=64, help="images a step (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=0.003, help="learning rate (default: %(default)s)")
    parser.add_argument("--images", type=int, default=4096, help="images to learn from (default: %(default)s)")
    parser.add_argument("--tests", type=int, default=512, help="images to be judged by (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--checkpoint-every", type=int, default=100, metavar="STEPS", help="(default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="begin anew, even where there is a checkpoint")
    parser.add_argument("--out", type=pathlib.Path, help="folder for result.json and checkpoint.pt")
    return parser


def main() -> int:
    """Train; return 0, 1 for what cannot be done, 143 when it was told to stop."""
    options = parser().parse_args()
    try:
        run = training.Run(
            steps=options.steps,
            batch=options.batch,
            rate=options.rate,
            images=options.images,
            tests=options.tests,
            seed=options.seed,
            checkpoint_every=options.checkpoint_every,
        )
        with tracking.tracker(run) as log:
            return training.train(run, log, device=options.device, folder=options.out, fresh=options.fresh)
    except training.CannotTrain as error:
        print(f"arr_train: {error}", file=sys.stderr)
        return 1


# The loader's workers import this module again.
if __name__ == "__main__":
    sys.exit(main())
