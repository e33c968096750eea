"""Device code is read from ELF files as NVIDIA's own cuobjdump reads it. files/make says how the files were made."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetiers.binaries.device_code import FormatError, read_elf
from imagetiers.config.gpus import Target, architecture
from tests.conftest import HERE

FILES = HERE / "binaries" / "files"
LIBRARIES = sorted(FILES.glob("*.so"))
LISTED = re.compile(r"\.(sm_\d+[af]?)\.(cubin|ptx)$", re.MULTILINE)


def cuobjdump() -> Path:
    """Return NVIDIA's program, which its wheel has without the right to run it."""
    try:
        found = files("nvidia-cuda-cuobjdump") or []
    except PackageNotFoundError:
        pytest.skip("NVIDIA has no cuobjdump for this machine")
    program = next(Path(str(file.locate())) for file in found if file.name == "cuobjdump")
    program.chmod(0o755)
    return program


def target(text: str) -> Target:
    known = architecture(text)
    assert known is not None, text
    return known.target


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.stem)
def test_the_targets_are_those_that_cuobjdump_lists(path: Path) -> None:
    argv = [str(cuobjdump()), "--list-elf", "--list-ptx", str(path)]
    listed = LISTED.findall(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)
    code = read_elf(path.read_bytes())

    # It says sm_100 of sm_100f, too.
    assert {target(text).sass.removesuffix("f") for text in code.sass} == {
        name for name, kind in listed if kind == "cubin"
    }
    assert {f"sm_{target(text).ptx.partition('_')[2]}" for text in code.ptx} == {
        name for name, kind in listed if kind == "ptx"
    }


def test_what_the_files_hold() -> None:
    read = {path.stem: read_elf(path.read_bytes()) for path in LIBRARIES}

    assert {name: (sorted(code.sass), sorted(code.ptx)) for name, code in read.items()} == {
        "ampere": (["8.0"], []),
        "lz4": (["8.0", "9.0"], ["9.0"]),
        "plain": (["10.0f", "8.0", "9.0", "9.0a"], ["12.0a", "9.0"]),
        "ptx": ([], ["8.0"]),
        "relocatable": (["9.0"], []),
        "stripped": ([], []),
        "zstd": (["8.0", "9.0"], ["9.0"]),
    }
    assert all(code.registers for code in read.values())
    assert read["plain"].empty == read["lz4"].empty + 2, "links leave an entry without code for each target"


def test_a_program_without_cuda_has_nothing_to_do_with_it() -> None:
    assert not read_elf(Path(sys.executable).resolve().read_bytes())


@given(st.data())
def test_damage_is_a_format_error_or_other_code_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(LIBRARIES)).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])

    for damaged in (bytes(whole), cut):
        with contextlib.suppress(FormatError):
            assert read_elf(damaged).empty >= 0
