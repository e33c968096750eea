"""What a fresh worker's builder image costs, alone and with the layers that a registry keeps (`share_layers`).

    python benchmarks/shared_layers.py [--target c10|torch] [--rounds 2]

Builds the stage `builder` of images/pytorch-clean after an edit of build-wheels, as when a compile key is new. Before each
build BuildKit forgets the toolchain's layers and all that lies on them, and nothing else. Needs Docker, debian:trixie-slim and
docker-registry (ci/bootstrap test installs them). Prints one JSON line a build: wall seconds, and the load then.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from imagetiers.planning.containers import BuildImage  # noqa: E402
from tests.engine.conftest import docker  # noqa: E402
from tests.engine.test_layers import forget_layers  # noqa: E402
from tests.registry.server import RegistryServer  # noqa: E402

IMAGE = "measure/builder:1"
INSTALL = "RUN /usr/local/libexec/imagetiers/install-packages"


def context(folder: Path, mark: str) -> Path:
    """Copy the tier's folder, with a mark in the command that installs the toolchain."""
    shutil.copytree(ROOT / "images" / "pytorch-clean", folder)
    dockerfile = folder / "Dockerfile"
    text = dockerfile.read_text()
    dockerfile.write_text(text.replace(INSTALL, INSTALL.replace("RUN ", f"RUN echo {mark} >/dev/null; "), 1))
    return folder


def build(folder: Path, target: str, layers: str | None) -> float:
    """Build the builder image; return wall seconds."""
    bases = dict.fromkeys(("DEVEL_BASE", "RUNTIME_BASE"), "debian:trixie-slim")
    args = {**bases, "SOURCE": "debian", "DISTRO": "trixie", "TARGET": target}
    argv = BuildImage((IMAGE,), "builder", "linux/amd64", args, {}, layers=layers).argv()
    began = time.monotonic()
    subprocess.run([*argv[:-1], str(folder)], check=True, capture_output=True)
    return time.monotonic() - began


def say(what: str, seconds: float) -> None:
    """Print one build."""
    print(json.dumps({"build": what, "seconds": round(seconds, 1), "load": round(os.getloadavg()[0], 1)}), flush=True)


def main() -> None:
    """Measure alone and shared, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=("c10", "torch"), default="c10")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    mark = secrets.token_hex(8)
    with tempfile.TemporaryDirectory() as name:
        server = RegistryServer(Path(name) / "registry")
        try:
            folder = context(Path(name) / "context", mark)
            layers = f"{server.host}/measure/builder:layers"
            say("cold", build(folder, options.target, layers))
            docker("tag", IMAGE, layers)
            docker("push", "-q", layers)
            docker("rmi", layers)
            for number in range(options.rounds):
                for shared in (False, True):
                    docker("rmi", "-f", IMAGE)
                    forget_layers(mark)
                    script = folder / "build" / "build-wheels"
                    script.write_text(f"{script.read_text()}\n# {number} {shared}\n")
                    say("shared" if shared else "alone", build(folder, options.target, layers if shared else None))
        finally:
            server.stop()
            docker("rmi", "-f", IMAGE)
            forget_layers(mark)


if __name__ == "__main__":
    main()
