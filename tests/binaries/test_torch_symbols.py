"""What libraries take from PyTorch, on some that g++ makes in its namespaces: an extension, its PyTorch and another one."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagetiers.binaries.elf import FormatError
from imagetiers.binaries.torch_symbols import TorchSymbols, read_torch_symbols
from imagetiers.judging.torch_abi import foreign_extensions
from imagetiers.layers.model import FileEntry, FileKind

TORCH = """
namespace c10 {{ int f({0} x) {{ return x; }} struct S {{ virtual ~S(); }}; S::~S() {{}} }}
namespace other {{ int g() {{ return 1; }} }}
"""
EXTENSION = """
namespace c10 { int f(int); struct S { virtual ~S(); }; [[gnu::weak]] int maybe(); }
namespace other { int g(); }
int own() { c10::S s; return c10::f(1) + other::g() + (c10::maybe ? c10::maybe() : 0); }
"""

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """An extension, the PyTorch that it was compiled against, and one whose function has another parameter."""
    folder = tmp_path_factory.mktemp("libraries")
    sources = {"extension": EXTENSION, "torch": TORCH.format("int"), "another": TORCH.format("long")}
    made = {}
    for name, text in sources.items():
        (folder / f"{name}.cpp").write_text(text)
        argv = ["g++", "-shared", "-fPIC", "-s", f"{name}.cpp", "-o", f"{name}.so"]
        subprocess.run(argv, cwd=folder, check=True)
        made[name] = (folder / f"{name}.so").read_bytes()
    return made


def test_names_of_its_namespaces_alone(libraries: dict[str, bytes]) -> None:
    read = {name: read_torch_symbols(data) for name, data in libraries.items()}

    assert read["torch"].defined >= {b"_ZN3c101fEi", b"_ZTVN3c101SE", b"_ZN3c101SD1Ev"}
    assert not read["torch"].wanted
    assert b"_ZN3c101fEl" in read["another"].defined
    assert b"_ZN3c101fEi" in read["extension"].wanted
    assert b"_ZN3c105maybeEv" not in read["extension"].wanted, "what may be missing"
    assert not any(b"other" in name for each in read.values() for name in each.defined | each.wanted)


def told(libraries: dict[str, bytes], *names: str) -> list[str]:
    return list(
        foreign_extensions(
            FileEntry(f"/{name}.so", FileKind.FILE, 0o644, torch=read_torch_symbols(libraries[name]) or None)
            for name in names
        )
    )


def test_an_extension_of_another_pytorch_is_told(libraries: dict[str, bytes]) -> None:
    assert told(libraries, "extension", "torch") == []
    assert told(libraries, "extension", "another") == [
        "/extension.so was compiled against another PyTorch: this one has no _ZN3c101fEi"
    ]
    (alone,) = told(libraries, "extension")
    assert alone.endswith(" more")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_a_format_error_or_other_names_and_nothing_else(
    libraries: dict[str, bytes], data: st.DataObject
) -> None:
    whole = bytearray(libraries["extension"])
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_torch_symbols(bytes(whole))
    except FormatError:
        return
    assert isinstance(found, TorchSymbols)
