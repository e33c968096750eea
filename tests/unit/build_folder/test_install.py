"""What CMake installs without a linker is copied while compilers run, and what comes out is what `ninja install` gives."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from imagetiers.build_folder import install

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("cmake", "ninja", "g++"))), reason="needs cmake, ninja and g++"
)

RULES = """\
cmake_minimum_required(VERSION 3.18)
project(demo LANGUAGES CXX)
add_library(demo SHARED demo.cpp)
install(TARGETS demo LIBRARY DESTINATION lib)
install(DIRECTORY include/ DESTINATION include MESSAGE_NEVER FILES_MATCHING PATTERN "*.h" REGEX "secret\\\\.h$" EXCLUDE)
install(FILES ${CMAKE_BINARY_DIR}/made.txt DESTINATION share)
install(PROGRAMS tool.sh DESTINATION bin)
install(CODE "file(APPEND [[${CMAKE_BINARY_DIR}/ran]] once)")
install(CODE "execute_process(COMMAND touch [[${CMAKE_BINARY_DIR}/executed]])")
"""


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """Return the folder of a project that is configured, and of which nothing is linked."""
    source = tmp_path / "src"
    (source / "include" / "deep;er").mkdir(parents=True)
    (source / "CMakeLists.txt").write_text(RULES)
    (source / "demo.cpp").write_text("int demo() { return 1; }\n")
    for name in ("one.h", "secret.h", "deep;er/two words.h", "notes.txt"):
        (source / "include" / name).write_text(f"// {name}\n")
    (source / "tool.sh").write_text("#!/bin/sh\n")
    words = ["cmake", "-S", str(source), "-B", str(tmp_path / "build"), "-G", "Ninja"]
    subprocess.run([*words, f"-DCMAKE_INSTALL_PREFIX={tmp_path / 'out'}"], check=True, capture_output=True)
    build = tmp_path / "build"
    (build / "made.txt").write_text("of the build before\n")
    for path in (*source.rglob("*.h"), build / "made.txt"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return build


def installed(build: Path) -> dict[str, bytes]:
    out = build.parent / "out"
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_what_is_only_copied_is_there_before_anything_is_linked(build: Path, tmp_path: Path) -> None:
    with install.ahead(str(build), str(tmp_path)):
        pass
    assert installed(build).keys() == {
        "include/one.h",
        "include/deep;er/two words.h",
        "share/made.txt",
        "bin/tool.sh",
    } - {
        "bin/tool.sh"  # written a moment ago, so it may still change
    }
    assert not (build / "ran").exists()
    assert not (build / "executed").exists()

    subprocess.run(["ninja", "-C", str(build)], check=True, capture_output=True)
    assert install.install(str(build)) == 0
    assert (build / "ran").read_text() == "once"
    assert (build / "executed").exists()
    both = installed(build)

    shutil.rmtree(tmp_path / "out")
    subprocess.run(["ninja", "-C", str(build), "install"], check=True, capture_output=True)
    assert installed(build) == both
    assert "lib/libdemo.so" in both


def test_what_is_made_meanwhile_is_installed_as_it_is_in_the_end(build: Path, tmp_path: Path) -> None:
    made = build / "made.txt"
    made.write_text("a beginning")
    with install.ahead(str(build), str(tmp_path)):
        limit = time.monotonic() + 20
        while not (tmp_path / "out" / "share" / "made.txt").exists() and time.monotonic() < limit:
            time.sleep(0.01)
        before = made.stat().st_mtime_ns
        made.write_text("the end")
        os.utime(made, ns=(before, before + 900_000_000))  # less than a second: CMake sees no difference
    subprocess.run(["ninja", "-C", str(build)], check=True, capture_output=True)
    assert install.install(str(build)) == 0
    assert installed(build)["share/made.txt"] == b"the end"


def test_what_cannot_be_installed_ahead_is_left_to_the_end(build: Path, tmp_path: Path) -> None:
    (build / "made.txt").unlink()
    with install.ahead(str(build), str(tmp_path)):
        (build / "made.txt").write_text("made at last\n")
    subprocess.run(["ninja", "-C", str(build)], check=True, capture_output=True)
    assert install.install(str(build)) == 0
    assert installed(build)["share/made.txt"] == b"made at last\n"
    assert "include/one.h" in installed(build)


def test_without_the_programs_nothing_is_done_ahead(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with install.ahead(str(build), str(tmp_path)):
        pass
    assert installed(build) == {}
