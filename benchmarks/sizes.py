"""What the images weigh, layer by layer, and what one stage for everything would weigh.

    doit variant=cpu                                      # in CHECKOUT
    python benchmarks/sizes.py CHECKOUT variant=cpu

The single stage is measured, not guessed: the builder image runs its compile (warm, on a copy of the checkout's ccache,
which is not counted), installs the wheels into a virtual environment, and is weighed as it then is. Bytes are the
engine's: unpacked.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.engine.conftest import Checkout, docker  # noqa: E402

INSTALL = (
    "python3 -m venv --system-site-packages /opt/venv && /opt/venv/bin/pip install --no-index --no-deps /wheels/*.whl"
)


@dataclass(frozen=True)
class Layer:
    """A layer of an image: its size in bytes, and the instruction that made it."""

    size: int
    made_by: str


def layers(ref: str) -> list[Layer]:
    """Return the layers of an image, the first one first."""
    found = []
    for line in reversed(docker("history", "--no-trunc", "--human=false", "--format", "{{json .}}", ref).splitlines()):
        layer = json.loads(line)
        made_by = " ".join(layer["CreatedBy"].split())
        found.append(Layer(int(layer["Size"]), re.sub(r"^(RUN |/bin/sh -c (#\(nop\) )?)|( # buildkit)$", "", made_by)))
    return found


def short(text: str) -> str:
    """Return an instruction as a cell of the table, without what BuildKit adds to it."""
    text = re.sub(r"^\|\d+ (\S+=\S* )*|/bin/sh -c |/usr/local/libexec/imagetiers/", "", text)
    return text if len(text) <= 70 else f"{text[:69]}…"


def table(title: str, all_layers: list[Layer], below: int = 0) -> Iterator[str]:
    """Say what an image weighs, and which of its own layers weigh more than a tenth of a megabyte."""
    yield f"| **{title}** | **{sum(layer.size for layer in all_layers) / 1e6:.1f}** |"
    for layer in all_layers[below:]:
        if layer.size >= 100_000:
            yield f"| {short(layer.made_by)} | {layer.size / 1e6:.1f} |"


def single_stage(builder: str, ccache: Path) -> int:
    """Compile and install in the builder image; return what it weighs then, in bytes."""
    with tempfile.TemporaryDirectory() as temporary:
        warm = Path(temporary) / "ccache"
        shutil.copytree(ccache, warm)
        name = f"imagetiers-sizes-{os.getpid()}"
        try:
            docker("run", "--name", name, "-v", f"{warm}:/ccache", builder, "bash", "-ec", f"build-wheels && {INSTALL}")
            weighed = json.loads(docker("inspect", "--size", name))[0]
        finally:
            subprocess.run(["docker", "rm", "-f", name], check=False, capture_output=True)
    return int(weighed["SizeRootFs"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What the images weigh, layer by layer.")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("arguments", nargs="*", help="for doit, as variant=cpu")
    options = parser.parse_args()
    tiers = Checkout(options.checkout, "").plan(*options.arguments)
    print("| image, and its own layers | MB |\n|---|---|")
    below: dict[str, int] = {}
    for name, tier in tiers.items():
        found = layers(str(tier["ref"]))
        print(*table(name, found, below.get(str(tier["parent"]), 0)), sep="\n", flush=True)
        below[name] = len(found)
    for name, tier in tiers.items():
        compile_ = tier["compile"]
        if not isinstance(compile_, dict):
            continue
        builder = str(compile_["builder"])
        print(*table(f"{name}, builder", layers(builder)), sep="\n", flush=True)
        ccache = max((options.checkout / ".imagetiers" / "ccache").iterdir(), key=lambda path: path.stat().st_mtime)
        print(f"| **{name} in one stage** | **{single_stage(builder, ccache) / 1e6:.1f}** |", flush=True)


if __name__ == "__main__":
    main()
