"""What a fresh worker's builder image costs, alone and with the layers that a registry keeps (`share_layers`).

    python -m benchmarks.shared_layers [--target c10|torch] [--rounds 2] [--to FILE]

Builds the stage `builder` of images/pytorch-clean after an edit of build-wheels, as when a compile key is new. Before each
build BuildKit forgets the toolchain's layers and all that lies on them, and nothing else. Needs Docker, debian:trixie-slim and
docker-registry (ci/bootstrap test installs them).
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.session import ROOT, Measured, recording
from imagetiers.planning.containers import BuildImage
from tests.engine.conftest import docker
from tests.engine.test_layers import forget_layers
from tests.registry.server import RegistryServer

IMAGE = "measure/builder:1"
ALONE, SHARED = "alone", "with the registry's layers"
IMAGE_ITSELF = "the image"
TARGETS = {"c10": "builder of c10", "torch": "builder of the whole of PyTorch"}
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


def main() -> None:
    """Measure alone and shared, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=tuple(TARGETS), default="c10")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    mark = secrets.token_hex(8)
    case = TARGETS[options.target]
    with tempfile.TemporaryDirectory() as name, recording(f"shared_layers_{options.target}", options.to) as measured:
        server = RegistryServer(Path(name) / "registry")
        try:
            folder = context(Path(name) / "context", mark)
            layers = f"{server.host}/measure/builder:layers"
            measured.append(
                Measured(
                    case, "the first, which fills the registry", {"wall_s": (build(folder, options.target, layers),)}
                )
            )
            size = int(docker("image", "inspect", "--format", "{{.Size}}", IMAGE))
            measured.append(Measured(case, IMAGE_ITSELF, {"size_mb": (size / 1e6,)}))
            taken: dict[bool, dict[str, list[float]]] = {how: {"wall_s": [], "load": []} for how in (False, True)}
            docker("tag", IMAGE, layers)
            docker("push", "-q", layers)
            docker("rmi", layers)
            for number in range(options.rounds):
                for shared in (False, True):
                    docker("rmi", "-f", IMAGE)
                    forget_layers(mark)
                    script = folder / "build" / "build-wheels"
                    script.write_text(f"{script.read_text()}\n# {number} {shared}\n")
                    taken[shared]["wall_s"].append(build(folder, options.target, layers if shared else None))
                    taken[shared]["load"].append(os.getloadavg()[0])
            for shared, values in taken.items():
                runs = {metric: tuple(found) for metric, found in values.items()}
                measured.append(Measured(case, SHARED if shared else ALONE, runs))
        finally:
            server.stop()
            docker("rmi", "-f", IMAGE)
            forget_layers(mark)


if __name__ == "__main__":
    main()
