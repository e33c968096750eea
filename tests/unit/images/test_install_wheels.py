"""install-wheels sorts what wheels bring into folders of which each becomes a layer: the same bytes from every build."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tests.conftest import HERE

BUILD = HERE.parent / "images" / "pytorch-clean" / "build"
TORCH = {
    "torch/__init__.py": "x = 1\n",
    "torch/version.py": "v = 1\n",
    "torch/lib/libtorch_cuda.so": "cuda" * 100,
    "torch/lib/libtorch_cuda_linalg.so": "linalg" * 100,
    "torch/lib/libtorch_cpu.so": "cpu" * 100,
    "torch/_C.cpython-313-x86_64-linux-gnu.so": "c" * 100,
    "torch/include/a.h": "int a;\n",
    "torch-2.6.0.data/scripts/torchrun": "#!python\n",
}
VISION = {"torchvision/__init__.py": "y = 1\n", "torchvision/_C.so": "vision" * 100}


def wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    whole = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*whole, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as made:
        for path, text in {**whole, f"{info}/RECORD": record}.items():
            made.writestr(zipfile.ZipInfo(path), text)


def packed(folder: Path) -> str:
    """Return the hash of a folder as a layer is packed: names, contents, modes and times."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for path in sorted(folder.rglob("*")):
            made.add(path, str(path.relative_to(folder)), recursive=False)
    return hashlib.sha256(out.getvalue()).hexdigest()


class Environment:
    """A virtual environment at one place, as in an image: made anew for each build."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.provided = folder / "provided.txt"
        self.provided.write_text("# nothing\n")
        self.count = 0
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        (folder / "venv").rename(folder / "new")

    def build(self, wheels: Path) -> dict[str, str]:
        self.count += 1
        venv, layers = self.folder / "venv", self.folder / f"layers-{self.count}"
        shutil.rmtree(venv, ignore_errors=True)
        shutil.copytree(self.folder / "new", venv, symlinks=True)
        argv = [str(venv / "bin" / "python"), str(BUILD / "install-wheels"), str(self.provided), str(wheels), str(layers)]
        done = subprocess.run(
            argv, env={"SOURCE_DATE_EPOCH": "1738108800", "PATH": f"{venv}/bin:/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        self.files = {
            folder.name: sorted(str(path.relative_to(folder / str(venv)[1:])) for path in folder.rglob("*") if path.is_file())
            for folder in layers.iterdir()
        }
        return {folder.name: packed(folder) for folder in layers.iterdir()}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def test_layers_are_the_same_until_their_own_files_change(environment: Environment, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "torch", "2.6.0", TORCH)
    wheel(tmp_path / "wheels", "torchvision", "0.21.0", VISION)
    first = environment.build(tmp_path / "wheels")
    site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    files = {name: [path.removeprefix(f"{site}/") for path in paths] for name, paths in environment.files.items()}

    assert files["cuda"] == ["torch/lib/libtorch_cuda.so"]
    assert files["cpu"] == ["torch/lib/libtorch_cpu.so"]
    assert files["libraries"] == ["torch/_C.cpython-313-x86_64-linux-gnu.so", "torch/lib/libtorch_cuda_linalg.so"]
    assert {"bin/torchrun", "torch/__init__.py", "torch/include/a.h", "torch-2.6.0.dist-info/METADATA"} <= {*files["python"]}
    assert {path.split("/")[0] for path in files["others"]} == {"torchvision", "torchvision-0.21.0.dist-info"}
    assert any(path.startswith("torch/__pycache__/version.") for path in files["python"])

    time.sleep(1.1)  # so that a time of now would be another
    assert environment.build(tmp_path / "wheels") == first

    wheel(tmp_path / "wheels", "torch", "2.6.0", {**TORCH, "torch/version.py": "v = 2\n"})
    wheel(tmp_path / "wheels", "torchvision", "0.21.0", VISION)
    python = environment.build(tmp_path / "wheels")
    assert {name for name in first if python[name] != first[name]} == {"python"}

    wheel(tmp_path / "wheels", "torch", "2.6.0", TORCH)
    (tmp_path / "wheels" / "torchvision-0.21.0-py3-none-any.whl").unlink()
    wheel(tmp_path / "wheels", "torchvision", "0.21.1", {**VISION, "torchvision/_C.so": "other"})
    vision = environment.build(tmp_path / "wheels")
    assert {name for name in first if vision[name] != first[name]} == {"others"}
