"""What an update of the wheels costs in pushed and pulled bytes: in one layer, and in those of images/pytorch-clean.

    python -m benchmarks.wheel_layers WHEELS [--target c10|torch] [--rounds 2] [--to FILE]

WHEELS is a folder of wheels that the variant `quickstart` (c10) or `cpu` (torch) has compiled. An image is pushed; then a
line is added to one Python file of PyTorch's wheel, and the image of that is pushed. One layer is what `RUN pip install`
makes of them. A pull is measured as its requests and unpacking alone: the layers that the first image does not have are fetched
and unpacked as a stream, and not written. Needs Docker, debian:trixie-slim and docker-registry.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import requests

from benchmarks.session import ROOT, Measured, recording
from imagetiers.adapters.registry import HttpRegistry
from imagetiers.planning.observed import Present
from tests.engine.conftest import docker
from tests.registry.server import RegistryServer

ONE, SEVERAL = "one layer", "a layer each for libraries, Python files and other wheels"
TARGETS = {"c10": "c10", "torch": "the whole of PyTorch"}
CHANGED = {"c10": "pytorch_c10/__init__.py", "torch": "torch/version.py"}
_FIRST, _LAST = "COPY --link --from=installed /layers/cuda/ /", "COPY --link --from=installed /layers/others/ /"
_PLAIN = (
    "COPY build/declare-distributions /usr/local/libexec/imagetiers/\n"
    "COPY toolchains/trixie-{target}/runtime-provided.txt /opt/toolchain/\n"
    "RUN --mount=type=bind,from=wheels,target=/wheels "
    "/usr/local/libexec/imagetiers/declare-distributions /opt/toolchain/runtime-provided.txt "
    "&& pip install --no-index --no-deps --no-cache-dir --disable-pip-version-check /wheels/*.whl && pip check"
)
_CHUNK = 1 << 20


def context(folder: Path, target: str, *, several: bool) -> Path:
    """Copy the tier's folder; for one layer with the RUN that installs all wheels at once."""
    shutil.copytree(ROOT / "images" / "pytorch-clean", folder)
    dockerfile = folder / "Dockerfile"
    text = dockerfile.read_text()
    if not several:
        begin, end = text.index(_FIRST), text.index(_LAST) + len(_LAST)
        dockerfile.write_text(text[:begin] + _PLAIN.format(target=target) + text[end:])
    return folder


def edited(wheels: Path, folder: Path, file: str, line: str) -> Path:
    """Copy wheels, with a line more in a file of one of them, and with the RECORD that says so; the others stay as they are."""
    folder.mkdir()
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as source:
            if file not in source.namelist():
                shutil.copy(wheel, folder)
                continue
            with zipfile.ZipFile(folder / wheel.name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
                for entry in source.infolist():
                    content = source.read(entry)
                    if entry.filename == file:
                        content += f"# {line}\n".encode()
                        new = _record(file, content)
                    elif entry.filename.endswith(".dist-info/RECORD"):
                        rows = content.decode().splitlines()
                        content = "".join(f"{new if row.startswith(f'{file},') else row}\n" for row in rows).encode()
                    made.writestr(entry, content)
    return folder


def _record(file: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{file},sha256={digest},{len(content)}"


def build(folder: Path, wheels: Path, target: str, ref: str) -> float:
    """Build the image; return wall seconds."""
    args = {
        "DEVEL_BASE": "debian:trixie-slim",
        "RUNTIME_BASE": "debian:trixie-slim",
        "SOURCE": "debian",
        "DISTRO": "trixie",
    }
    given = [word for name, value in {**args, "TARGET": target}.items() for word in ("--build-arg", f"{name}={value}")]
    argv = ("docker", "buildx", "build", "-q", "--build-context", f"wheels={wheels}", *given, "-t", ref, str(folder))
    began = time.monotonic()
    subprocess.run(argv, check=True, capture_output=True)
    return time.monotonic() - began


def pushed(ref: str) -> float:
    """Push; return wall seconds."""
    began = time.monotonic()
    docker("push", "-q", ref)
    return time.monotonic() - began


def layers(ref: str) -> dict[str, int]:
    """Return the layers that the registry has of an image, with their bytes there."""
    found = HttpRegistry().look_up([ref])[ref]
    assert isinstance(found, Present)
    return dict(found.layers)


def pulled(server: RegistryServer, repository: str, digests: list[str]) -> float:
    """Fetch layers and unpack them; return wall seconds."""
    began = time.monotonic()
    for digest in digests:
        answer = requests.get(f"http://{server.host}/v2/{repository}/blobs/{digest}", stream=True, timeout=300)
        answer.raise_for_status()
        unpacked = zlib.decompressobj(wbits=31)
        for _ in map(unpacked.decompress, _pieces(answer)):
            pass
    return time.monotonic() - began


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    yield from answer.iter_content(_CHUNK)


def main() -> None:
    """Measure one layer and several, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--target", choices=tuple(TARGETS), default="c10")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    case, mark = TARGETS[options.target], secrets.token_hex(4)
    made: list[str] = []
    with tempfile.TemporaryDirectory() as name, recording(f"wheel_layers_{options.target}", options.to) as measured:
        server = RegistryServer(Path(name) / "registry")
        try:
            for several in (False, True):
                repository = f"measure-{mark}/{'several' if several else 'one'}"
                folder = context(Path(name) / repository.replace("/", "-"), options.target, several=several)
                ref = f"{server.host}/{repository}:first"
                made.append(ref)
                build(folder, options.wheels, options.target, ref)
                pushed(ref)
                known = layers(ref)
                runs: dict[str, list[float]] = {"image_mb": [sum(known.values()) / 1e6]}
                for number in range(options.rounds):
                    wheels = edited(
                        options.wheels, Path(name) / f"{several}-{number}", CHANGED[options.target], f"{mark} {number}"
                    )
                    ref = f"{server.host}/{repository}:update-{number}"
                    made.append(ref)
                    taken = {"build_s": build(folder, wheels, options.target, ref), "push_s": pushed(ref)}
                    new = {digest: size for digest, size in layers(ref).items() if digest not in known}
                    taken |= {"update_mb": sum(new.values()) / 1e6, "new_layers": float(len(new))}
                    taken |= {"pull_s": pulled(server, repository, list(new)), "load": os.getloadavg()[0]}
                    for metric, value in taken.items():
                        runs.setdefault(metric, []).append(value)
                    known |= new
                    shutil.rmtree(wheels)
                found = {metric: tuple(values) for metric, values in runs.items()}
                measured.append(Measured(case, SEVERAL if several else ONE, found))
        finally:
            server.stop()
            for ref in made:
                subprocess.run(["docker", "rmi", "-f", ref], check=False, capture_output=True)


if __name__ == "__main__":
    main()
