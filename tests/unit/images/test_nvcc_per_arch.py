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


def test_the_call_of_a_torch_extension(launcher: ModuleType) -> None:
    """torch.utils.cpp_extension says `-MD -MF` in other words and names no target: nvcc takes the output for it."""
    words = "--generate-dependencies-with-compile --dependency-output b/k.o.d -DX -c -c k.cu -o b/k.o --expt-relaxed-constexpr "
    words += "--compiler-options -fPIC -gencode=arch=compute_90,code=sm_90 -ccbin /usr/bin/gcc -std=c++17"
    call = launcher.parse(words.split())
    assert launcher.depend(call, "u.d") == ["-MD", "-MT", "b/k.o", "-MF", "u.d"]
    assert call.archs == [("compute_90", "sm_90")]
    assert "--generate-dependencies-with-compile" not in call.flags


def test_the_numbers_that_cicc_gives_do_not_matter(launcher: ModuleType) -> None:
    """One text for all architectures: only words that cicc made up are touched, and what differed goes on differing."""
    stub = (
        b"static void k(const A *__restrict__ __par0){\n const A *__T%d;\n const A *__T%d;\n"
        b"__T%d = __par0;__T%d = __par0;f(__T%d);f(kPKT1__T7);}\n"
        b"static void __nv_cudaEntityRegisterCallback(void **__T%d){__cudaRegisterEntry(__T%d, k, _Z1kPK1A, 128);}\n"
    )
    one, other = (
        launcher.number_names(stub % numbers) for numbers in ((3, 4, 3, 4, 3, 9, 9), (80, 2, 80, 2, 80, 1, 1))
    )
    assert one == other == stub % (0, 1, 0, 1, 0, 2, 2)
    assert launcher.number_names(one) == one
    assert launcher.number_names(stub % (3, 4, 3, 4, 4, 9, 9)) != one


def test_an_nvcc_that_is_not_known(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said once, and each call goes to nvcc as it is; the compile does not end."""
    assert launcher.main(["--identify", "/bin/true", "g++"]) == 0
    said = capfd.readouterr()
    assert said.out == "unknown\n"
    assert said.err.startswith("nvcc-per-arch: cicc is not found; ")
    monkeypatch.setenv("NVCC_PER_ARCH_TOOLCHAIN", said.out.strip())
    with pytest.raises(launcher.NotUnderstood):
        launcher.toolchain("/bin/true", [])


def test_the_host_compiler_of_a_call_is_part_of_the_hash(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """torch's extensions name another than PyTorch's own build; the one that was identified adds nothing."""
    monkeypatch.setenv("NVCC_PER_ARCH_TOOLCHAIN", "abc:700,800:/usr/bin/g++")
    other = tmp_path / "gcc"
    other.write_bytes(b"one")
    other.chmod(0o755)
    assert launcher.toolchain("nvcc", ["-ccbin=/usr/bin/g++"]) == ("abc", "700,800")
    first, archs = launcher.toolchain("nvcc", ["-DX", "-ccbin", str(other)])
    other.write_bytes(b"two")
    second, _ = launcher.toolchain("nvcc", ["-DX", f"-ccbin={other}"])
    assert archs == "700,800"
    assert len({first, second, "abc"}) == 3
