"""What the images weigh, layer by layer, and what one stage for everything would weigh.

    doit variant=cpu                                      # in CHECKOUT
    python -m benchmarks.sizes CHECKOUT variant=cpu [--to FILE]

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
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.session import Measured, recording
from tests.engine.conftest import Checkout, docker

WHOLE = "the image"
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


def weighed(image: str, all_layers: list[Layer], below: int = 0) -> Iterator[Measured]:
    """Yield what an image weighs, and those of its own layers that weigh more than a tenth of a megabyte."""
    yield _weight(image, WHOLE, sum(layer.size for layer in all_layers))
    for layer in all_layers[below:]:
        if layer.size >= 100_000:
            yield _weight(image, short(layer.made_by) or "base", layer.size)


def _weight(image: str, subject: str, size: int) -> Measured:
    return Measured(image, subject, {"size_mb": (size / 1e6,)})


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
    """Weigh."""
    parser = argparse.ArgumentParser(description="What the images weigh, layer by layer.")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("arguments", nargs="*", help="for doit, as variant=cpu")
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    tiers = Checkout(options.checkout, "").plan(*options.arguments)
    below: dict[str, int] = {}
    with recording("sizes", options.to) as measured:
        for name, tier in tiers.items():
            found = layers(str(tier["ref"]))
            measured.extend(weighed(name, found, below.get(str(tier["parent"]), 0)))
            below[name] = len(found)
        for name, tier in tiers.items():
            compile_ = tier["compile"]
            if not isinstance(compile_, dict):
                continue
            builder = str(compile_["builder"])
            measured.extend(weighed(f"the builder of {name}, which is never shipped", layers(builder)))
            ccache = max((options.checkout / ".imagetiers" / "ccache").iterdir(), key=lambda path: path.stat().st_mtime)
            measured.append(_weight(f"{name} in one stage", WHOLE, single_stage(builder, ccache)))


if __name__ == "__main__":
    main()
