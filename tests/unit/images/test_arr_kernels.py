"""images/arr-kernels without PyTorch: where its launcher comes from."""

from __future__ import annotations

from datetime import date

from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from tests.conftest import HERE


def test_the_launcher_is_the_one_of_pytorch_clean() -> None:
    plan = make_plan(load_repository(Layout(HERE.parent), "cuda"), date(2026, 11, 21))
    kernels, torch = plan.tiers["arr-kernels"].compile, plan.tiers["pytorch-clean"].compile
    assert kernels is not None
    assert torch is not None
    launchers = [
        [file.content for file in step.files if file.path.endswith("/nvcc-per-arch")] for step in (kernels, torch)
    ]

    assert launchers[0] == launchers[1]
    assert len(launchers[0]) == 1
    assert kernels.key_document.parent == plan.tiers["arr-base"].key
    assert dict(kernels.args)["TORCH_CUDA_ARCH_LIST"] == "9.0"
