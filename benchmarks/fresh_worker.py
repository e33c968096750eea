"""Where the seconds go on a fresh worker: the quickstart with its cache in a bucket, cold and then warm.

    python -m benchmarks.fresh_worker [--latency 0.02] [--prune] [--to FILE]

Three workers in turn, each a new checkout with nothing but the bucket: (cold) an empty bucket; (warm) the wheels are
lost, so the compile runs through the ccache that the bucket holds; (wheels) nothing is lost, so nothing is compiled.
The bucket is the tests' GCS server with `--latency` seconds added to each request: what it says of real Google Cloud
Storage is nothing. With `--prune` the engine's whole build cache is emptied before each worker (it is yours: mind what
else uses it); without it BuildKit's cached layers make each builder image free.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.session import ROOT, Measured, recording
from tests.engine.conftest import Checkout, make_checkout, remove_all
from tests.gcs.harness import GcsServer

VARIANT = "variant=quickstart"
OURS = "doit"
CASES = {"cold": "an empty bucket", "warm": "the wheels are lost in the bucket too", "wheels": "nothing but the bucket"}


def work(checkout: Checkout) -> float:
    """Run the whole quickstart; return its wall seconds."""
    began = time.monotonic()
    run = checkout.doit(VARIANT)
    if run.code != 0:
        raise SystemExit(run.text)
    return time.monotonic() - began


def lose_wheels(checkout: Checkout) -> None:
    """Remove the wheels from the bucket."""
    assert checkout.store is not None
    for blob in list(checkout.store.list("wheels/")):
        checkout.store.delete(blob.name)


def taken(checkout: Checkout, since: float, wall: float, requests: int) -> dict[str, tuple[float, ...]]:
    """Return where this worker's seconds went, as the records say that the bucket has since it began."""
    compiles, made = (
        [record for record in checkout.records(kind) if float(str(record["began"])) >= since]
        for kind in ("compile", "image")
    )
    record = compiles[-1] if compiles else {}
    phases: dict[str, float] = record.get("phases", {})  # type: ignore[assignment]
    images = sum(float(str(one["seconds"])) for one in made)
    values = {"wall_s": wall}
    if record:
        names = {"builder image": "builder_s", "pull": "pull_s", "compile container": "compile_s", "push": "push_s"}
        values |= {metric: phases.get(phase, 0.0) for phase, metric in names.items()}
        hits = int(str(record["hits"]))
        values |= {"hits": hits, "calls": hits + int(str(record["misses"]))}
    rest = wall - images - float(str(record.get("seconds", 0)))
    values |= {"images_s": images, "rest_s": rest, "requests": requests}
    return {name: (value,) for name, value in values.items()}


def main() -> None:
    """Be the three workers."""
    parser = argparse.ArgumentParser(description="Where the seconds go on a fresh worker.")
    parser.add_argument("--latency", default="0.02")
    parser.add_argument("--prune", action="store_true")
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    server = GcsServer("--latency", options.latency)
    notes = [f"{float(options.latency) * 1000:.0f} ms added to each request."]
    if not options.prune:
        notes.append("BuildKit's layers are cached.")
    with (
        closing(server),
        tempfile.TemporaryDirectory() as temporary,
        recording("fresh_worker", options.to, notes) as found,
    ):
        source, name = ROOT, ""
        for scenario, case in CASES.items():
            if options.prune:
                subprocess.run(["docker", "builder", "prune", "-af"], check=True, capture_output=True)
            checkout = make_checkout(source, Path(temporary) / scenario, name, server)
            source, name = checkout.root, checkout.name
            server.config(clear=True, latency=float(options.latency))
            since = time.time()
            wall = work(checkout)
            found.append(Measured(case, OURS, taken(checkout, since, wall, server.requests())))
            remove_all(checkout)
            shutil.rmtree(checkout.root / ".imagetiers")
            if scenario == "cold":
                lose_wheels(checkout)


if __name__ == "__main__":
    main()
