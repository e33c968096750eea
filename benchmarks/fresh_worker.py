"""Where the seconds go on a fresh worker: the quickstart with its cache in a bucket, cold and then warm.

    python benchmarks/fresh_worker.py [--latency 0.02] [--prune]

Three workers in turn, each a new checkout with nothing but the bucket: (cold) an empty bucket; (warm) the wheels are
lost, so the compile runs through the ccache that the bucket holds; (wheels) nothing is lost, so nothing is compiled.
The bucket is the tests' GCS server with `--latency` seconds added to each request: what it says of real Google Cloud
Storage is nothing. With `--prune` the engine's whole build cache is emptied before each worker (it is yours: mind what
else uses it); without it BuildKit's cached layers make each builder image free.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.engine.conftest import Checkout, make_checkout, remove_all  # noqa: E402
from tests.gcs.harness import GcsServer  # noqa: E402

VARIANT = "variant=quickstart"


def work(checkout: Checkout) -> float:
    """Run the whole quickstart; return its wall seconds."""
    began = time.monotonic()
    run = checkout.doit(VARIANT, timeout=1800)
    if run.code != 0:
        raise SystemExit(run.text)
    return time.monotonic() - began


def lose_wheels(checkout: Checkout) -> None:
    """Remove the wheels from the bucket."""
    assert checkout.store is not None
    for blob in list(checkout.store.list("wheels/")):
        checkout.store.delete(blob.name)


def row(name: str, checkout: Checkout, wall: float, requests: int) -> str:
    """Return a table row: what the records say of this worker's compile and images."""
    compiles = [r for r in checkout.records("compile") if name != "wheels"]
    phases: dict[str, float] = compiles[-1]["phases"] if compiles else {}  # type: ignore[assignment]
    hits = f"{compiles[-1]['hits']}/{compiles[-1]['hits'] + compiles[-1]['misses']}" if compiles else "-"  # type: ignore[operator]
    images = sum(float(str(r["seconds"])) for r in checkout.records("image")[-4:])
    cells = [f"{phases.get(phase, 0):.1f}" for phase in ("builder image", "pull", "compile container", "push")]
    compile_seconds = float(str(compiles[-1]["seconds"])) if compiles else 0.0
    rest = wall - compile_seconds - images
    return f"| {name} | {wall:.1f} | {' | '.join(cells)} | {images:.1f} | {rest:.1f} | {hits} | {requests} |"


def main() -> None:
    """Run the three workers and print the table."""
    parser = argparse.ArgumentParser(description="Where the seconds go on a fresh worker.")
    parser.add_argument("--latency", default="0.02")
    parser.add_argument("--prune", action="store_true")
    options = parser.parse_args()
    server = GcsServer("--latency", options.latency)
    rows: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as temporary:
            source, name = ROOT, ""
            for scenario in ("cold", "warm", "wheels"):
                if options.prune:
                    subprocess.run(["docker", "builder", "prune", "-af"], check=True, capture_output=True)
                checkout = make_checkout(source, Path(temporary) / scenario, name, server)
                source, name = checkout.root, checkout.name
                server.config(clear=True, latency=float(options.latency))
                wall = work(checkout)
                rows.append(row(scenario, checkout, wall, server.requests()))
                remove_all(checkout)
                shutil.rmtree(checkout.root / ".imagetiers")
                if scenario == "cold":
                    lose_wheels(checkout)
    finally:
        server.close()
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {float(options.latency) * 1000:.0f} ms added to each request"
    )
    print(
        "| worker | wall s | builder image | pull | compile | push | images | verify and the rest | hits | requests |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    print(json.dumps({"prune": options.prune}))


if __name__ == "__main__":
    main()
