"""images/arr-kernels without PyTorch: what its checks read out of a file, and where its launcher comes from."""

from __future__ import annotations

import runpy
import struct
from collections.abc import Callable
from datetime import date

import pytest

from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from tests.conftest import HERE

VERIFY = runpy.run_path(str(HERE.parent / "images/arr-kernels/verify.py"))
architectures: Callable[[bytes], set[str]] = VERIFY["architectures"]
PTX, SASS = 1, 2


def entry(kind: int, number: int, code: bytes) -> bytes:
    return struct.pack("<HHIQIIII", kind, 0x101, 64, len(code), 0, 0, 0, number).ljust(64, b"\0") + code


def fat_binary(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_every_fat_binary_of_a_file_is_read() -> None:
    first = fat_binary(entry(SASS, 80, b"code" * 4), entry(SASS, 90, b"code" * 100))
    second = fat_binary(entry(SASS, 90, b"more" * 2), entry(PTX, 90, b".version 8.4"))

    assert architectures(b"\x7fELF" + bytes(60) + first + bytes(8) + second) == {"sm_80", "sm_90", "compute_90"}


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF" + bytes(100), fat_binary(), fat_binary(entry(SASS, 90, b"x" * 64))[:40]]
)
def test_a_file_without_device_code_has_no_architectures(data: bytes) -> None:
    assert architectures(data) == set()


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
