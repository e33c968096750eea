"""The production variant on stand-ins: Debian in the place of CUDA's images, small trees in the place of GitHub's.

What runs for real: the plan with its pinned commits, apt and pip with their lists, the user, fetch-git with a submodule,
build-wheels from CMake to three wheels that fit each other, and the runtime image. What cannot: nvcc, CUDA's libraries,
Python 3.10 (the pins are taken again for Debian's Python, same versions), and the source itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import REPO, Checkout, docker, make_checkout, remove_all

DOCKERFILE = "images/pytorch-clean/Dockerfile"
TOOLCHAIN = REPO / "images" / "pytorch-clean" / "toolchains" / "ubuntu22.04-torch"
PINNED = sorted(
    path
    for path in (REPO / "images").rglob("*.txt")
    if "ubuntu22.04" in str(path) and "--hash=sha256" in path.read_text()
)


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com"]
    done = subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, submodule: str = "", inner: str = "") -> str:
    git(folder, "add", "-A")
    if submodule:
        git(folder, "update-index", "--add", "--cacheinfo", f"160000,{inner},{submodule}")
    git(folder, "commit", "-q", "-m", "the tree")
    return git(folder, "rev-parse", "HEAD")


def make_repositories(folder: Path) -> dict[str, str]:
    """Make upstream's repositories under their names at GitHub, PyTorch's with a submodule; return their commits."""
    trees = folder / "pytorch"
    shutil.copytree(HERE / "repos" / "production" / "upstream", trees)
    (trees / "extension").rename(trees / "vision")
    shutil.copytree(trees / "vision", trees / "audio")
    (trees / "cpuinfo").mkdir()
    (trees / "cpuinfo" / "cpuinfo.cpp").write_text('extern "C" int cpus() { return 1; }\n')
    for tree in trees.iterdir():
        git(tree, "init", "-q")
    inner = commit(trees / "cpuinfo")
    module = '[submodule "third_party/cpuinfo"]\npath = third_party/cpuinfo\nurl = https://github.com/pytorch/cpuinfo\n'
    (trees / "pytorch" / ".gitmodules").write_text(module)
    return {
        "pytorch": commit(trees / "pytorch", "third_party/cpuinfo", inner),
        "vision": commit(trees / "vision"),
        "audio": commit(trees / "audio"),
    }


def pin(path: Path, python: str) -> None:
    """Pin the same versions again, for another Python."""
    named = re.findall(r"^([\w.-]+==[\w.]+)", path.read_text(), re.MULTILINE)
    if named:
        command = [sys.executable, str(REPO / "ci" / "pin.py"), python, *named]
        path.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@dataclass(frozen=True)
class Production:
    checkout: Checkout
    context: Path

    @property
    def ref(self) -> str:
        return str(self.checkout.plan()["pytorch-clean"]["ref"])

    def inside(self, *command: str) -> str:
        entry, *arguments = command
        return docker("run", "--rm", "--network", "none", "--entrypoint", entry, self.ref, *arguments)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("production")
    made = make_checkout(REPO, folder / "checkout")
    context = folder / "bases"
    shutil.copytree(HERE / "repos" / "production", context)
    patches = made.root / "images" / "pytorch-clean" / "source" / "patches"
    shutil.rmtree(patches)
    shutil.copytree(context / "patches", patches)
    commits = make_repositories(context / "repositories")
    lock = "".join(f"  {source}: {commits[name]}\n" for name, source in upstream(made).items())
    (made.root / "pipeline.lock.yaml").write_text(f"images: {{}}\ngit:\n{lock}")
    for requirements in sorted(
        (made.root / "images" / "pytorch-clean" / "toolchains" / TOOLCHAIN.name).glob("*requirements.txt")
    ):
        pin(requirements, "3.13")
    bases = {stage: build_base(context, stage) for stage in ("devel", "runtime")}
    for stage, base in bases.items():
        made.edit("pipeline.yaml", f"nvidia/cuda:12.4.1-cudnn-{stage}-ubuntu22.04", base)
    try:
        yield Production(made, context)
    finally:
        remove_all(made)
        for base in bases.values():
            subprocess.run(["docker", "rmi", "-f", base], check=False, capture_output=True)


def build_base(context: Path, stage: str) -> str:
    """Build a stand-in for one of CUDA's images; return its name."""
    name = f"imagetiers-standin/cuda:{stage}-{secrets.token_hex(4)}"
    docker("buildx", "build", "-q", "--load", "--target", stage, "--tag", name, str(context))
    return name


def upstream(checkout: Checkout) -> dict[str, str]:
    """Return the repositories and refs that the pipeline names, by the repository's name."""
    found = re.findall(
        r'git: "(https://github.com/pytorch/(\w+))", ref: (\S+)}', (checkout.root / "pipeline.yaml").read_text()
    )
    return {name: f"{url}#{ref}" for url, name, ref in found}


def test_no_cuda_is_no_compile(production: Production) -> None:
    """PyTorch's CMake warns and goes on. A build that is asked for CUDA must not become one for the CPU."""
    made, last = production.checkout, "WORKDIR /src/pytorch\n"
    # After all that is installed, which the other tests install, too.
    without = f"RUN rm /usr/local/cuda/bin/nvcc\n{last}"
    made.edit(DOCKERFILE, last, without)
    try:
        run = made.doit("compile:pytorch-clean")
    finally:
        made.edit(DOCKERFILE, without, last)
    assert run.code != 0
    assert "CMake did not configure USE_CUDA=ON: '--   USE_CUDA              : OFF'" in run.text
    assert not list((made.root / ".imagetiers" / "wheels").glob("*/*.whl"))


def test_the_image_is_built_and_holds_what_it_should(production: Production) -> None:
    run = production.checkout.doit("image:pytorch-clean")
    assert run.code == 0, run.text
    report = (
        "import json, torch, torchvision, torchaudio; "
        "print(json.dumps([torch.__version__, torch.patched, torch.answer(), torchvision.compiled_with, "
        "torchvision.told, torchaudio.told]))"
    )
    version, patched, answer, compiled_with, *told = json.loads(production.inside("python3", "-c", report))
    assert (version, patched, answer, compiled_with) == ("2.6.0+cu124", True, 42, "2.6.0+cu124")
    assert told == [{"FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "7.5;8.0;8.6;8.9;9.0"}] * 2
    installed = dict(line.split("==") for line in production.inside("pip", "list", "--format", "freeze").split())
    assert {name: installed[name] for name in ("torch", "torchvision", "torchaudio", "triton")} == {
        "torch": "2.6.0+cu124",
        "torchvision": "0.21.0+cu124",
        "torchaudio": "2.6.0+cu124",
        "triton": "3.2.0",
    }
    kernels = hashlib.sha256(
        random.Random(1).randbytes(1000) * 5000
    ).hexdigest()  # as upstream/pytorch/setup.py makes them
    library = "/opt/venv/lib/python3.13/site-packages/torch/lib"
    assert production.inside("sha256sum", f"{library}/kernels.bin").split()[0] == kernels
    assert "No broken requirements found" in production.inside("pip", "check")
    # torch asks the loader for CUPTI, which NVIDIA's package puts where the loader does not look.
    assert "/usr/local/cuda/extras/CUPTI/lib64" in production.inside("/sbin/ldconfig", "-v", "-N", "-X")
    assert production.inside("id", "-un").strip() == "arr"
    left = "ls -A /var/lib/apt/lists /root/.cache 2>/dev/null; command -v g++ gcc cmake ninja ccache git; true"
    assert production.inside("sh", "-c", left).split() in ([], ["/var/lib/apt/lists:"])


def test_the_wheels_are_the_same_bits_from_another_checkout(production: Production) -> None:
    """The packing of run-setup, with a ccache that is empty in the second checkout."""
    first = production.checkout
    again = make_checkout(first.root, production.context.parent / "another-place")
    shutil.copy(first.root / "pipeline.lock.yaml", again.root)
    run = again.doit("compile:pytorch-clean", MAX_JOBS="1")
    try:
        assert run.code == 0, run.text
        wheels = [
            {wheel.name: wheel.read_bytes() for wheel in (made.root / ".imagetiers" / "wheels").glob("*/*.whl")}
            for made in (first, again)
        ]
        assert len(wheels[0]) == 3
        assert wheels[0] == wheels[1]
    finally:
        remove_all(again)


@pytest.mark.parametrize("path", PINNED, ids=lambda path: str(path.relative_to(REPO / "images")))
def test_the_pins_can_be_had_for_the_python_of_ubuntu(path: Path, tmp_path: Path) -> None:
    """pip takes each of them for Python 3.10, by its hash."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps"]
    command += ["--require-hashes", "--python-version", "3.10", "--only-binary", ":all:", "--target", str(tmp_path)]
    command += [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(35, 4, -1)] + [
        "--platform=manylinux2014_x86_64"
    ]
    done = subprocess.run(
        [*command, "-r", str(path)], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
