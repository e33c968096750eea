"""What a namespace of many entries costs: seconds, memory, requests, the head's size, and a month of it on GCS.

    python -m benchmarks.cache_scale --entries 200000 --folder /dev/shm/scale [--to FILE]

Entries are small (250 bytes, results and manifests in turn), so that their number is what is measured. The store is a
directory. Each step runs in a process of its own; memory is the most that it ever held (VmHWM), with Python's own 40 MB.
Before the last six, runs of four compile steps (40, or `--runs`) record random working sets, so that nothing compresses
and the history is full; they touch half of all entries each, so that the next push reads those again. The month is no
measurement: it counts the requests that builds of a cache of as many entries of PyTorch's size (62 KB, half of it when
packed) would make, at the prices in gcs_prices.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import xxhash

from benchmarks.session import Measured, recording
from imagetiers.ccache.format.entry import path_of
from imagetiers.ccache.local import scan
from imagetiers.ccache.prune import PruneOptions, prune
from imagetiers.ccache.pull import peek, pull
from imagetiers.ccache.push import push
from imagetiers.ccache.stats import stats
from imagetiers.stores.directory import DirectoryStore

PRICES = Path(__file__).with_name("gcs_prices.json")
DAY = 86_400.0


def make(folder: Path, first: int, count: int) -> None:
    """Write entries number `first` to `first + count`."""
    for number in range(first, first + count):
        name = hashlib.sha1(b"%d" % number).hexdigest()  # noqa: S324  a name, not a secret
        kind = number % 2
        head = struct.pack(">HBBBbBQ", 0xCCAC, 1, kind, 0, 0, 1, 1_700_000_000) + b"\x064.14.2\x00"
        payload = hashlib.sha512(b"%d" % number).digest() * 3
        body = head + struct.pack(">Q", len(head) + 8 + len(payload) + 16) + payload
        path = folder / path_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body + xxhash.xxh3_128_digest(body))


def step(folder: Path, what: str, entries: int, runs: int) -> dict[str, float]:
    """Do one step; say what it took."""
    store, a = DirectoryStore(folder / "store"), folder / "a"
    if what == "new 1 %":
        make(a, entries, entries // 100)
    if what == "working sets":
        draw = random.Random(1)
        paths = [file.path for file in scan(a).values()]
        for number in range(runs):
            start = time.time_ns()
            for path in draw.sample(paths, len(paths) // 2):
                os.utime(path)
            push(store, "main", a, step=f"step-{number % 4}", since=start)
    began, cpu = time.perf_counter(), time.process_time()
    requests = 0
    if what in ("cold push", "nothing new", "new 1 %", "checkpoint, nothing new"):
        requests = push(store, "main", a, step="bench", checkpoint="checkpoint" in what).requests
    elif what == "pull":
        shutil.rmtree(folder / "b", ignore_errors=True)
        began, cpu = time.perf_counter(), time.process_time()
        requests = pull(store, ["main"], folder / "b", step="bench").requests
    elif what == "pull plan":
        peek(store, ["main"], folder / "b", step="bench")
    elif what == "stats":
        stats(store, "main")
    elif what == "prune":
        requests = prune(store, "main", PruneOptions(max_age=30 * DAY)).requests
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    status = Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
    head = store.stat("ccache/main/head")
    return {
        "wall_s": seconds,
        "cpu_s": cpu,
        "memory_mb": peak * 1024 / 1e6,
        "requests": requests,
        "head_kb": head.size / 1000 if head else 0,
        "objects": sum(1 for _ in store.list("ccache/main/")),
    }


STEPS = (
    *("cold push", "nothing new", "nothing new", "nothing new", "new 1 %", "working sets"),
    *("checkpoint, nothing new", "nothing new", "stats", "prune", "pull plan", "pull"),
)


def month(prices: dict[str, Any], requests: dict[str, int], gigabytes: float, builds: int) -> dict[str, float]:
    """Return US dollars a month: so many builds a day, each with a pull, twelve checkpoints and a push; a prune a day."""
    writes = 4 * builds * 30 + 2 * 12 * builds * 30 + 30 * 6  # packs or segments, head; those of checkpoints; prune's
    lists = (builds + 1) * 30 * max(1, requests["objects"] // 1000)
    reads = builds * 30 * (requests["pull"] + 14)
    return {
        "class A": round((writes + lists) * prices["class_a_per_1000"] / 1000, 2),
        "class B": round(reads * prices["class_b_per_1000"] / 1000, 2),
        "storage": round(gigabytes * prices["standard_gb_month"], 2),
    }


def main() -> None:
    """Run the steps one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--step", default="")
    chosen = parser.parse_args()
    if chosen.step:
        print(json.dumps(step(chosen.folder, chosen.step, chosen.entries, chosen.runs)))
        return
    chosen.folder.mkdir(parents=True)
    make(chosen.folder / "a", 0, chosen.entries)
    options = ("--entries", chosen.entries, "--folder", chosen.folder, "--runs", chosen.runs)
    command = [sys.executable, "-m", "benchmarks.cache_scale", *map(str, options)]
    with recording(f"cache_scale_{chosen.entries}", chosen.to) as measured:
        for number, what in enumerate(STEPS):
            done = subprocess.run([*command, "--step", what], stdout=subprocess.PIPE, text=True, check=True)
            values = json.loads(done.stdout) | {"load": os.getloadavg()[0]}
            before = STEPS[:number].count(what)
            case = f"{what}, {before + 1}" if before else what
            measured.append(Measured(case, "imagetiers", {name: (value,) for name, value in values.items()}))
        measured.append(Measured("a month", "Google Cloud Storage, by its prices", month_of(chosen.entries)))
    shutil.rmtree(chosen.folder)


def month_of(entries: int, builds: int = 20) -> dict[str, tuple[float, ...]]:
    """Count what a month costs: a PyTorch cache has 62 KB an entry, half of that when packed, in packs of 8 MiB."""
    gigabytes = entries * 31_000 / 1e9
    packs = int(gigabytes * 1e9 / (8 << 20)) + 1
    costs = month(json.loads(PRICES.read_text()), {"pull": packs, "objects": packs}, gigabytes, builds)
    return {
        "builds_a_day": (builds,),
        "packed_gb": (gigabytes,),
        **{f"{name}_usd": (usd,) for name, usd in costs.items()},
    }


if __name__ == "__main__":
    main()
