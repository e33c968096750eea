"""The whole of PyTorch: the variant cpu, from a cache that holds its compile. Opt-in: pytest -m pytorch.

IMAGETIERS_PYTORCH_CACHE names a directory cache, filled by `doit variant=cpu compile` (hours, cold), and
IMAGETIERS_PYTORCH_NAME the name of the pipeline that filled it. It is only read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import REPO, Checkout, docker, make_checkout, remove_all

pytestmark = pytest.mark.pytorch
VARIANT = "variant=cpu"
TIERS = ("pytorch-clean", "arr-base", "arr-training", "arr-runner")


@pytest.fixture(scope="module")
def pytorch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    cache, name = os.environ.get("IMAGETIERS_PYTORCH_CACHE"), os.environ.get("IMAGETIERS_PYTORCH_NAME")
    if not cache or not name:
        pytest.skip("IMAGETIERS_PYTORCH_CACHE and IMAGETIERS_PYTORCH_NAME name no compile of PyTorch")
    checkout = make_checkout(REPO, tmp_path_factory.mktemp("pytorch") / "checkout", name)
    shutil.copytree(cache, checkout.root / ".imagetiers" / "cache", symlinks=True)
    try:
        run = checkout.doit(VARIANT)
        assert run.code == 0, run.text
        yield checkout
    finally:
        remove_all(checkout)


def image(checkout: Checkout, tier: str) -> str:
    return str(checkout.plan(VARIANT)[tier]["ref"])


def inside(checkout: Checkout, tier: str, *command: str) -> str:
    entry, *arguments = command
    return docker("run", "--rm", "--network", "none", "--entrypoint", entry, image(checkout, tier), *arguments)


@pytest.mark.timeout(3600)
def test_four_tiers_from_the_real_source(pytorch: Checkout) -> None:
    assert {tier["state"] for tier in pytorch.plan(VARIANT).values()} == {"found locally"}
    record = pytorch.records("compile")[-1]
    assert int(str(record["hits"])) > 1300
    report = "import torch, torchvision, torchaudio; print(torch.__version__, torchvision.__version__, torchaudio.__version__)"
    for tier in TIERS:
        versions = [version.partition("+")[0] for version in inside(pytorch, tier, "python3", "-c", report).split()]
        assert versions == ["2.6.0", "0.21.0", "2.6.0"]
        assert inside(pytorch, tier, "id", "-u").strip() == "10001"
        left = "ls /var/lib/apt/lists /var/cache/apt/archives/*.deb ~/.cache/pip /root/.cache/pip 2>/dev/null; "
        left += "for c in gcc g++ cc c++ cmake ninja ccache mold ld; do command -v $c; done; true"
        assert inside(pytorch, tier, "sh", "-c", left).split() in ([], ["/var/lib/apt/lists:"])


@pytest.mark.timeout(300)
def test_cuda_that_is_asked_for_and_not_there_ends_the_compile(pytorch: Checkout, tmp_path: Path) -> None:
    """PyTorch's own CMake warns and goes on without. Its summary is held against what the production variant requires."""
    toolchains = REPO / "images" / "pytorch-clean" / "toolchains"
    flags = {name: (toolchains / name / "flags.env").read_text() for name in ("trixie-torch", "ubuntu22.04-torch")}
    required = re.findall(r"^REQUIRED=.*$", flags["ubuntu22.04-torch"], re.MULTILINE)[0]
    (tmp_path / "flags.env").write_text(f"{flags['trixie-torch']}\nUSE_CUDA=1\n{required}\n")
    compile_ = pytorch.plan(VARIANT)["pytorch-clean"]["compile"]
    assert isinstance(compile_, dict)
    mount = f"{tmp_path / 'flags.env'}:/opt/toolchain/flags.env:ro"
    command = ["docker", "run", "--rm", "--network", "none", "-v", mount, str(compile_["builder"]), "build-wheels"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-3000:]
    assert "build-wheels: CMake did not configure USE_CUDA=ON: '--   USE_CUDA              : OFF'" in done.stderr


@pytest.mark.timeout(600)
def test_a_training_that_is_stopped_goes_on(pytorch: Checkout, tmp_path: Path) -> None:
    ref = image(pytorch, "arr-runner")
    tmp_path.chmod(0o777)

    def train(out: str, *options: str) -> list[str]:
        (tmp_path / out).mkdir(exist_ok=True)
        (tmp_path / out).chmod(0o777)
        mount = f"{tmp_path / out}:/out"
        small = ["--batch", "16", "--tests", "32", "--images", "64"]
        return ["docker", "run", "--rm", "--init", "-v", mount, "-e", "ARR_OUT=/out", ref, "run", *small, *options]

    whole = subprocess.run(train("whole", "--steps=30"), capture_output=True, text=True, check=True)
    assert "step 30: accuracy" in whole.stdout

    name = f"{pytorch.name}-training-{os.getpid()}"
    command = train("parts", "--steps=100000")
    command[2:2] = ["--name", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("step 20"):
                docker("kill", "--signal", "TERM", name)
                break
        process.stdout.read()
        assert process.wait(60) == 143
    assert (tmp_path / "parts" / "checkpoint.pt").exists()
    stopped = subprocess.run(train("parts", "--steps=1"), capture_output=True, text=True, check=False)
    assert stopped.returncode == 1
    assert "steps already; --fresh begins anew" in stopped.stderr

    # Ten, and then the rest, is the same as all at once.
    for steps in ("10", "30"):
        subprocess.run(train("two", f"--steps={steps}"), capture_output=True, text=True, check=True)
    results = [json.loads((tmp_path / out / "result.json").read_text()) for out in ("whole", "two")]
    assert [result["first"] for result in results] == [0, 10]
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-4)
    assert results[0]["accuracy"] == results[1]["accuracy"]


@pytest.mark.timeout(300)
def test_the_agent_is_there_and_wandb_logs_offline(pytorch: Checkout) -> None:
    assert "launch agent" in inside(pytorch, "arr-runner", "arr-run", "agent", "--help")
    began = time.monotonic()
    ref = image(pytorch, "arr-training")
    environment = ["-e", "WANDB_PROJECT=shapes", "-e", "WANDB_MODE=offline", "-e", "WANDB_DIR=/tmp"]
    command = ["run", "--rm", "--network", "none", *environment, ref, "sh", "-c"]
    out = docker(*command, "python3 -m arr_train --steps 2 --batch 8 --images 16 --tests 8 && ls /tmp/wandb")
    assert "offline-run-" in out
    assert time.monotonic() - began < 250
