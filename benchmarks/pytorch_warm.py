"""What a change costs on a fresh worker, on the real PyTorch: the variant cpu or cuda, with only a bucket kept.

    doit variant=cpu compile                                    # once, cold: hours; pipeline.yaml has cache: DIR
    python -m benchmarks.pytorch_warm --cache DIR --name NAME [--to FILE]   # NAME: the pipeline's name of that run
    python -m benchmarks.pytorch_warm --cache DIR --name NAME --variant cuda --only compile

Each row is a worker of its own: a new checkout, none of the pipeline's images, nothing but the bucket. The bucket is
the tests' GCS server with `--latency` seconds added to each request, filled from DIR; what it says of real Google Cloud
Storage is nothing. BuildKit's cache is kept between the workers, unless `--prune` empties it before each (it is yours:
mind what else uses it). The end of a worker removes tens of thousands of files, after which ext4 without a journal makes new
ones ten times as slowly, for minutes (benchmarks.cache has why): `--pause` waits for that, in which time the page cache may go
cold. The notes say what Docker's data lie on. `--rows` chooses
rows; all need `prepare`, which compiles what DIR does not hold (the extensions, when an older checkout filled it). With
`--only compile` a worker compiles the wheels and builds no image.

The floor of a warm compile is the builder's own script with the ccache on the same disk, without imagetiers: `floor`;
then, in the build folder that is still there, the patch of (c) and ninja: `ninja`; and some object files compiled
again without ccache, to compare their bytes: `bits`. Notes say what each row's wheels are, byte by byte. Rows that
are measured later are kept beside the others by a name of their own (`--as pytorch_warm_later`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.session import ROOT, Measured, recording
from imagetiers.stores.directory import DirectoryStore
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all
from tests.gcs.harness import GcsServer

DOCKERFILE = "images/pytorch-clean/Dockerfile"
FETCH = "fetch-debian /opt/toolchain/sources.txt /src\n"
SOURCE = "aten/src/ATen/native/Sorting.cpp"
# Included by some of the JIT's files. One that all include (c10/util/Exception.h) makes a cold compile.
HEADER = "torch/csrc/jit/passes/constant_propagation.h"
# Of those that are neither quick nor slow: about 50 s of processor for one architecture.
KERNEL = "aten/src/ATen/native/cuda/Loss.cu"
# Included by 16 of the 341 CUDA files, softmax and the normalisations among them.
KERNEL_HEADER = "aten/src/ATen/native/cuda/block_reduce.cuh"
GPUS = ("pipeline.yaml", "  cuda:\n    gpus: [H100]\n")


@dataclass(frozen=True)
class Change:
    """A row: what differs from the build before, as (file, old text, new text); `lost` are objects of the bucket."""

    row: str
    what: str
    edit: tuple[str, str, str] | None = None
    lost: str = ""


def patch(path: str, kind: str = "[[maybe_unused]] inline") -> tuple[str, str, str]:
    """Append a function to a file of PyTorch: new code, so that no cache can know it."""
    code = f"namespace {{ {kind} int imagetiers_patch() {{ return {len(path)}; }} }}"
    return DOCKERFILE, FETCH, f"{FETCH}RUN echo '{code}' >>/src/pytorch/{path}\n"


ALWAYS = (
    Change("prepare", "what the cache does not hold yet"),
    Change("a", "nothing changed"),
    Change("b", "the wheels are lost", lost="wheels/"),
    Change("c", f"one source file: {SOURCE}", patch(SOURCE)),
)
CHANGES = {
    "cpu": (
        *ALWAYS,
        Change("d", f"one header: {HEADER}", patch(HEADER)),
        Change(
            "e",
            "a build flag: one more in LDFLAGS",
            ("images/pytorch-clean/toolchains/trixie-torch/flags.env", "-Wl,-s", "-Wl,-s -Wl,-O1"),
        ),
        Change("f", "the runtime stage", (DOCKERFILE, "USER arr", "ENV EDITED=1\nUSER arr")),
        Change("k", "one source file, with a function that is in the library", patch(SOURCE, "__attribute__((used))")),
    ),
    "cuda": (
        *ALWAYS,
        Change("g", f"one CUDA file: {KERNEL}", patch(KERNEL)),
        Change("h", f"one CUDA header: {KERNEL_HEADER}", patch(KERNEL_HEADER)),
        Change("i", "an architecture more: sm_75", (*GPUS, "  cuda:\n    gpus: [T4, H100]\n")),
        Change("j", "the last architecture taken away: sm_75 alone", (*GPUS, "  cuda:\n    gpus: [T4]\n")),
    ),
}
#: Object files that are compiled a second time, to compare their bytes: one takes about ten seconds.
SAMPLE = 12
OURS, FLOOR, NINJA = (
    "doit on a fresh worker",
    "build-wheels with the ccache on this disk",
    "ninja in a build folder that is there",
)


def run(change: Change, checkout: Checkout, server: GcsServer, latency: float, *words: str) -> Measured:
    """Be one worker that calls doit with these words; return what it took."""
    if change.edit is not None:
        checkout.edit(*change.edit)
    if change.lost:
        assert checkout.store is not None
        for blob in list(checkout.store.list(change.lost)):
            checkout.store.delete(blob.name)
    before = {kind: {str(record["began"]) for record in checkout.records(kind)} for kind in ("compile", "image")}
    server.config(clear=True, latency=latency)
    began = time.monotonic()
    done = checkout.doit(*words)
    wall = time.monotonic() - began
    if done.code != 0:
        raise SystemExit(done.text)
    moved = json.loads(server.request("GET", "/_test/stats")[2])["bytes"]
    compiles = [record for record in checkout.records("compile") if str(record["began"]) not in before["compile"]]
    images = [record for record in checkout.records("image") if str(record["began"]) not in before["image"]]
    return Measured(f"({change.row}) {change.what}", OURS, taken(checkout, wall, compiles, images, moved))


def taken(
    checkout: Checkout,
    wall: float,
    compiles: list[dict[str, object]],
    images: list[dict[str, object]],
    moved: dict[str, int],
) -> dict[str, tuple[float, ...]]:
    """Return where the worker's seconds went, as the records and the compile's log have them."""
    compiled = compiles[-1] if compiles else {}
    phases: dict[str, float] = compiled.get("phases", {})  # type: ignore[assignment]
    parts: dict[str, float] = compiled.get("parts", {})  # type: ignore[assignment]
    image_seconds = sum(float(str(record["seconds"])) for record in images)
    values: dict[str, float] = {"wall_s": wall}
    if compiles:
        values |= {
            "builder_s": phases.get("builder image", 0),
            "pull_s": phases.get("pull", 0),
            "configure_s": parts.get("configure", 0),
            "compile_s": parts.get("compile torch", 0),
            "link_s": linked(checkout),
            "package_s": parts.get("package", 0) + parts.get("deliver", 0),
            "extensions_s": parts.get("compile torchvision", 0) + parts.get("compile torchaudio", 0),
            "push_s": phases.get("push", 0),
        }
        hits = int(str(compiled["hits"]))
        values |= {"hits": hits, "calls": hits + int(str(compiled["misses"]))}
    values["images_s"] = image_seconds
    values["rest_s"] = wall - image_seconds - float(str(compiled.get("seconds", 0)))
    values |= {"received_mb": moved["out"] / 1e6, "sent_mb": moved["in"] / 1e6, "load": os.getloadavg()[0]}
    return {name: (float(value),) for name, value in values.items()}


def linked(checkout: Checkout) -> float:
    """Add up what build-wheels says of torch's links; some of them run side by side."""
    logs = sorted((checkout.root / ".imagetiers" / "logs" / "pytorch-clean").glob("compile-*"), key=os.path.getmtime)
    return sum(
        float(seconds) for seconds in re.findall(r"^-- linked .* in ([\d.]+) s$", logs[-1].read_text(), re.MULTILINE)
    )


def digests(checkout: Checkout) -> str:
    """Name the wheels by what they hold: the same inputs must give the same bits, on every worker."""
    wheels = sorted((checkout.root / ".imagetiers" / "wheels").glob("*/*.whl"))
    return " ".join(f"{w.name.partition('-')[0]} {hashlib.sha256(w.read_bytes()).hexdigest()[:12]}" for w in wheels)


def floor(checkout: Checkout, folder: Path, case: str, notes: list[str]) -> Iterator[Measured]:
    """Time the builder's own script on a warm ccache, and then ninja alone on one patched file; compile some files again."""
    builder = next(ref for ref in checkout.refs() if "/pytorch-clean-builder:" in ref)
    ccache = next((checkout.root / ".imagetiers" / "ccache").iterdir())
    patched = patch(SOURCE)[2].partition("RUN ")[2].strip()
    script = f"""
        set -euo pipefail
        clock() {{ date +%s.%N; }}
        begin=$(clock); build-wheels >/wheels/floor.log; warm=$(clock)
        export CCACHE_DISABLE=1
        cd /src/pytorch
        objects=$(find build -name '*.cpp.o' | sort | shuf -n {SAMPLE} --random-source=<(yes))
        sha256sum $objects >/wheels/objects.sha256
        rm $objects
        ninja -C build $(echo "$objects" | sed 's,^build/,,') >/dev/null
        same=$(sha256sum -c /wheels/objects.sha256 2>/dev/null | grep -c ': OK$')
        ninja -C build install >/dev/null
        {patched}
        patched=$(clock); ninja -C build install >/dev/null; end=$(clock)
        echo $begin $warm $patched $end $same
    """
    command = ["run", "--rm", "-v", f"{ccache}:/ccache", "-v", f"{folder}:/wheels", builder, "bash", "-c", script]
    begin, warm, patched_at, end, same = map(float, docker(*command).split())
    notes.append(f"Compiled again without ccache, {same:.0f} of {SAMPLE} object files are the same.")
    yield Measured(case, FLOOR, {"wall_s": (warm - begin,)})
    yield Measured("(c) in a build folder that is still there", NINJA, {"wall_s": (end - patched_at,)})


def disk() -> str:
    """Say what Docker's data lie on."""
    root = docker("info", "--format", "{{.DockerRootDir}}").strip()
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    over = [mount for mount in mounts if f"{root}/".startswith(f"{mount[1].rstrip('/')}/")]
    # Of several at the same place, the last one hides the others.
    device, _, kind, *_ = max(reversed(over), key=lambda mount: len(mount[1]))
    journal = "with" if any(Path("/proc/fs/jbd2").glob(f"{Path(device).name}-*")) else "without"
    return f"Docker's data lie on {kind}{f' {journal} a journal' * (kind == 'ext4')}."


def main() -> None:
    """Be the workers in turn."""
    parser = argparse.ArgumentParser(description="What a change costs on a fresh worker, on the real PyTorch.")
    parser.add_argument(
        "--cache", type=Path, required=True, help="the directory cache that holds a compile of the variant"
    )
    parser.add_argument("--name", required=True, help="the name of the pipeline that made it")
    parser.add_argument("--variant", choices=CHANGES, default="cpu")
    parser.add_argument("--only", choices=["compile"], help="the wheels, and no image")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds; default: %(default)s")
    parser.add_argument("--rows", help="names separated by commas; default: all")
    parser.add_argument("--prune", action="store_true")
    parser.add_argument("--pause", type=int, default=0, help="seconds before each row but the first")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--as", dest="as_", default="pytorch_warm", help="the name that the result is kept by")
    options = parser.parse_args()
    rows = options.rows.split(",") if options.rows else [*(change.row for change in CHANGES[options.variant]), "floor"]
    words = [f"variant={options.variant}", *(["compile:pytorch-clean"] if options.only else [])]
    notes = [f"{options.latency * 1000:.0f} ms added to each request.", disk()]
    with (
        closing(GcsServer("--no-md5")) as server,
        tempfile.TemporaryDirectory() as temporary,
        recording(options.as_, options.to, notes) as measured,
    ):
        bucket = server.store(options.name)
        kept = DirectoryStore(options.cache)
        for blob in list(kept.list("")):
            bucket.write(blob.name, kept.read(blob.name)[0])
        made: dict[str, list[str]] = {}
        for change in CHANGES[options.variant]:
            if change.row not in (*rows, "prepare"):
                continue
            if measured:
                time.sleep(options.pause)
            if options.prune:
                subprocess.run(["docker", "builder", "prune", "-af"], check=True, capture_output=True)
            checkout = make_checkout(ROOT, Path(temporary) / change.row, options.name, server)
            try:
                measured.append(run(change, checkout, server, options.latency, *words))
                made.setdefault(digests(checkout), []).append(change.row)
                print(measured[-1], flush=True)
                if change.row == "b" and "floor" in rows:
                    measured.extend(floor(checkout, Path(temporary), measured[-1].case, notes))
            finally:
                remove_all(checkout)
                shutil.rmtree(checkout.root / ".imagetiers", ignore_errors=True)
        notes += [f"Wheels of {', '.join(rows)}: {wheels}." for wheels, rows in made.items()]


if __name__ == "__main__":
    main()
