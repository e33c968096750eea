"""The programs that are brought into images: their Python is 3.8's, and nothing misspelt or missing passes for a check."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import packaging
import pytest

from imagetiers import inside

C10 = "#include <string>\nnamespace c10 {\nvoid check(const std::string&)"
FOLDER = Path(inside.__file__).parent
SCRIPT = """
from imagetiers_checks import Failed, always, check, gpu_check, main

@always
def user(params):
    return "somebody"

@check
def greeting(expected, params):
    if expected != "hello":
        raise Failed(f"it is '{expected}'")
    return expected

@check
def broken(expected, params):
    raise KeyError("x")

@gpu_check
def gpu_kernels(params):
    return "run"

main(options=["steps"])
"""


def run(tmp_path: Path, params: dict[str, object], **env: str) -> tuple[int, list[str]]:
    (tmp_path / "verify.py").write_text(SCRIPT)
    (tmp_path / "expect.json").write_text(json.dumps(params))
    done = subprocess.run(
        [sys.executable, tmp_path / "verify.py", tmp_path / "expect.json"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(FOLDER), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    "path", [*FOLDER.glob("*.py"), *Path(packaging.__file__).parent.rglob("*.py")], ids=lambda p: p.name
)
def test_it_is_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.skipif(os.path.exists("/dev/dxg") or os.path.exists("/dev/nvidia0"), reason="there is a GPU")  # noqa: PTH110
def test_what_is_asked_for_is_checked_and_nothing_else_passes(tmp_path: Path) -> None:
    assert run(tmp_path, {"greeting": "hello", "steps": 3}) == (0, ["ok   user: somebody", "ok   greeting: hello"])
    assert run(tmp_path, {"greeting": "bye"})[1][1] == "FAIL greeting: it is 'bye'"
    assert run(tmp_path, {"broken": 1}) == (1, ["ok   user: somebody", "FAIL broken: KeyError: 'x'"])
    code, (_, unknown) = run(tmp_path, {"greetin": "hello"})
    assert (code, unknown) == (1, "FAIL greetin: there is no check greetin; there are steps, greeting, broken")
    assert run(tmp_path, {}, IMAGETIERS_GPU="1")[1][1].startswith("FAIL GPU: this container was given the host's GPUs")


def ask(tmp_path: Path, *checks: tuple[str, str, str]) -> dict[str, str]:
    """Ask this Python as an image's is asked; return what is wrong, by check."""
    (tmp_path / "ask.json").write_text(json.dumps(checks))
    (tmp_path / "packaging").symlink_to(Path(packaging.__file__).parent.parent)
    (tmp_path / "python_checks.py").write_bytes((FOLDER / "python_checks.py").read_bytes())
    argv = [sys.executable, "python_checks.py", "4711", "ask.json"]
    out = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    said = [
        json.loads(line.removeprefix("4711 result ")) for line in out.splitlines() if line.startswith("4711 result")
    ]
    return {each["check"]: each["problem"] for each in said}


def test_python_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(3)\n")
    (tmp_path / "mine.py").write_text("__version__ = '1.20.3'\n")
    said = ask(
        tmp_path,
        ("import", "json", ""), ("import", "mine", "1.20"), ("import", "mine", "1.2"), ("import", "nowhere", ""),
        ("import", "leaves", ""), ("version", "pytest", "0"), ("version", "nothing-such", "1"), ("pip check", "", ""),
    )  # fmt: skip

    imports = {name.removeprefix("import "): problem for name, problem in said.items()}
    assert imports["json"] == said["pip check"] == ""
    assert imports["mine"] == "mine is 1.20.3, not 1.2", "1.20 passed, and 1.2 is another one"
    assert imports["nowhere"] == "nowhere: ModuleNotFoundError: No module named 'nowhere'"
    assert imports["leaves"] == "leaves: SystemExit: 3"
    assert said["version pytest"].startswith("pytest is ")
    assert said["version nothing-such"] == "nothing-such is not installed"


def test_distributions_that_do_not_fit_are_named(tmp_path: Path) -> None:
    requires = ["pytest<1", "absent-one", "absent-two; python_version < '3'", "x; extra == 'y'"]
    folder = tmp_path / "needs_much-1.0.dist-info"
    folder.mkdir()
    lines = ["Metadata-Version: 2.1\nName: needs-much\nVersion: 1.0", *(f"Requires-Dist: {each}" for each in requires)]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")

    problem = ask(tmp_path, ("pip check", "", ""))["pip check"]

    assert "needs-much requires absent-one, which is not installed" in problem
    assert "needs-much requires pytest<1, and " in problem
    assert "absent-two" not in problem
    assert "requires x" not in problem


@pytest.mark.parametrize("abi", [0, 1])
def test_an_extension_for_another_abi_of_torch_does_not_import(abi: int, tmp_path: Path) -> None:
    """PyTorch came with both ABIs of libstdc++; an extension for the wrong one asks libc10 for what it does not have."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    (tmp_path / "c10.cpp").write_text(f"{C10} {{}}\n}}")
    (tmp_path / "ext.cpp").write_text(f'{C10};\n}}\nextern "C" void run() {{ c10::check("x"); }}\n')
    for name, of in (("c10", 1), ("ext", abi)):
        argv = [compiler, "-shared", "-fPIC", f"-D_GLIBCXX_USE_CXX11_ABI={of}", "-o", f"lib{name}.so", f"{name}.cpp"]
        link = ["-L.", "-lc10", "-Wl,-rpath,$ORIGIN"] if name == "ext" else []
        subprocess.run([*argv, *link], cwd=tmp_path, check=True)
    loads = f"import ctypes, os\nctypes.CDLL({str(tmp_path / 'libext.so')!r}, mode=os.RTLD_NOW)\n"
    (tmp_path / "extension.py").write_text(loads)

    problem = ask(tmp_path, ("import", "extension", ""))[f"{'import'} extension"]

    assert problem == "" if abi else "undefined symbol: _ZN3c105checkERKSs" in problem
