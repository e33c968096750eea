"""The nvcc launcher of images/pytorch-clean: what it understands of a call, and what it keeps of a unit. No nvcc is run."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import HERE

SCRIPT = HERE.parent / "images" / "pytorch-clean" / "build" / "nvcc-per-arch"


@pytest.fixture(scope="module")
def launcher() -> ModuleType:
    """The script as a module."""
    loader = importlib.machinery.SourceFileLoader("nvcc_per_arch", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


CALL = "-forward-unknown-to-host-compiler -ccbin=/usr/bin/g++ -DA=1 -isystem /x -Xfatbin -compress-all -O3 -Wall -std=c++17 "
REST = "-MD -MT k.o -MF k.o.d -x cu -c k.cu -o k.o"


def test_a_call_in_parts(launcher: ModuleType) -> None:
    """The command line of CMake's Ninja generator."""
    archs = "-gencode arch=compute_80,code=sm_80 --generate-code=arch=compute_90,code=[sm_90,compute_90] "
    call = launcher.parse((CALL + archs + REST).split())
    assert call.archs == [("compute_80", "sm_80"), ("compute_90", "sm_90"), ("compute_90", "compute_90")]
    assert call.gencodes == ["arch=compute_80,code=sm_80", "arch=compute_90,code=[sm_90,compute_90]"]
    assert call.flags == [*CALL.split(), "-x", "cu"]
    assert (call.source, call.output) == ("k.cu", "k.o")
    assert launcher.depend(call, "u.d") == ["-MD", "-MT", "k.o", "-MF", "u.d"]


@pytest.mark.parametrize(
    "words",
    [
        "-rdc=true",
        "-dc",
        "-dlto",
        "--threads 2",
        "-G",
        "-lineinfo",
        "-Wl,-s",
        "--options-file x.rsp",
        "-D__CUDA_ARCH_LIST__=800",
        "-gencode arch=compute_80,code=lto_80",
        "-gencode arch=compute_75,code=sm_80",
        "other.cu",
        "-unheard-of",
    ],
)
def test_what_is_not_understood_goes_to_nvcc(launcher: ModuleType, words: str) -> None:
    """One word that is not known is enough."""
    given = (CALL + "-gencode arch=compute_80,code=sm_80 " + words + " " + REST).split()
    with pytest.raises(launcher.NotUnderstood):
        launcher.parse(given)


def test_each_machine_code_and_each_ptx_is_a_unit(launcher: ModuleType) -> None:
    """What TORCH_CUDA_ARCH_LIST=8.0;9.0+PTX and 9.0a make of a call, and PTX without machine code."""
    archs = "-gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90 "
    whole = launcher.parse((CALL + archs + REST).split())
    assert [code for _, code in whole.archs] == ["sm_80", "sm_90", "compute_90"]
    special = launcher.parse((CALL + "-gencode arch=compute_90a,code=sm_90a " + REST).split())
    assert special.archs == [("compute_90a", "sm_90a")]
    alone = launcher.parse((CALL + "-gencode arch=compute_70,code=compute_70 " + REST).split())
    assert alone.archs == [("compute_70", "compute_70")]


def test_a_unit_is_read_whole_or_not_at_all(launcher: ModuleType, tmp_path: Path) -> None:
    """What is cut or is something else is never joined."""
    path = tmp_path / "unit"
    launcher.write_bundle(path, [b"cubin", b"", b"stub"])
    assert launcher.read_bundle(path) == (b"cubin", b"", b"stub")
    launcher.write_bundle(path, [b"", b"ptx", b"stub"])
    assert launcher.read_bundle(path) == (b"", b"ptx", b"stub")
    whole = path.read_bytes()
    neither = launcher.MAGIC + b"[0, 0, 4]\nstub"
    for broken in (
        neither,
        whole[:-1],
        whole + b"x",
        b"",
        b"\x7fELF",
        launcher.MAGIC + b"[1]\nx",
        launcher.MAGIC + b"{}\n",
    ):
        path.write_bytes(broken)
        with pytest.raises(launcher.NotUnderstood):
            launcher.read_bundle(path)


def test_the_module_id_depends_on_the_source_alone(launcher: ModuleType, tmp_path: Path) -> None:
    """Every unit of a source must name its static kernels alike, whatever the architecture."""
    for name, args in (("a", ["-DX", "/src/Pow.cu"]), ("b", ["/src/Pow.cu"]), ("c", ["/src/other/Pow.cu"])):
        launcher.write_module_id(tmp_path / name, args)
    ids = [(tmp_path / f"{name}.module_id").read_text() for name in "abc"]
    assert ids[0] == ids[1] != ids[2]
    assert "_6_Pow_cu_" in ids[0]


def test_the_number_that_cicc_gives_a_parameter_does_not_matter(launcher: ModuleType) -> None:
    """One text for all architectures; a stub that is not as expected stays as it is."""
    stub = (
        b"static void __nv_cudaEntityRegisterCallback(void **);\n"
        b"static void __nv_cudaEntityRegisterCallback( void **__T3) {  __cudaRegisterEntry(__T3, ((void (*)())k__T3), _Zk, 128); }\n"
        b"static void __sti____cudaRegisterAll(void) {  __cudaRegisterBinary(__nv_cudaEntityRegisterCallback);  }\n"
    )
    named = launcher.name_parameter(stub)
    assert named == stub.replace(b"**__T3)", b"**__T0)").replace(b"(__T3,", b"(__T0,")
    assert launcher.name_parameter(named) == named
    for other in (stub.replace(b"_Zk", b"__T0"), stub.replace(b"__T3)", b"made)"), stub + stub, b""):
        assert launcher.name_parameter(other) == other
