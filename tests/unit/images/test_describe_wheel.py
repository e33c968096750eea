"""images/pytorch-clean's describe-wheel, on a wheel of a real compile: git's submodules, packages of the system, RECORD."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HERE

PROGRAM = HERE.parent / "images" / "pytorch-clean" / "build" / "describe-wheel"
TOOLS = ("git", "ninja", "g++", "dpkg-query")
NINJA = """\
rule cxx
  command = g++ -MD -MF $out.d -I.. -c $in -o $out
  depfile = $out.d
  deps = gcc
build own.o: cxx ../own.cpp
"""
INFO = "example-1.0.dist-info"

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}, as the images have them"
)


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path, **files: str) -> str:
    folder.mkdir()
    git(folder, "init", "-q")
    for name, text in files.items():
        (folder / name.replace("_h", ".h").replace("_cpp", ".cpp")).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with two submodules, of which one is used, and a folder that git knows nothing of; compiled."""
    for name in ("used", "unused"):
        repository(tmp_path / name, **{f"{name}_h": f"#define {name.upper()} 1\n"})
    text = '#include <cstdio>\n#include "third_party/used/used.h"\n#include "third_party/miniz-3.0.2/miniz.h"\n'
    repository(tmp_path / "source", own_cpp=text)
    made = tmp_path / "source"
    for name in ("used", "unused"):
        git(made, "submodule", "add", "-q", str(tmp_path / name), f"third_party/{name}")
    git(made / "third_party" / "used", "remote", "set-url", "origin", "https://github.com/Example/Used.git")
    git(made, "commit", "-qm", "with submodules")
    (made / "third_party" / "miniz-3.0.2").mkdir()
    (made / "third_party" / "miniz-3.0.2" / "miniz.h").write_text("")
    (made / "build").mkdir()
    (made / "build" / "build.ninja").write_text(NINJA)
    subprocess.run(["ninja", "-C", made / "build"], check=True, capture_output=True)
    return made


def wheel(folder: Path, *, last: str = "RECORD") -> Path:
    files = {"example.py": "", f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: example\nVersion: 1.0\n",
             f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n"}  # fmt: skip
    files[f"{INFO}/RECORD"] = "".join(f"{name},,\n" for name in files) + f"{INFO}/RECORD,,\n"
    path = folder / "example-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files, key=lambda name: name.endswith(f"/{last}")):
            archive.writestr(zipfile.ZipInfo(name, (2025, 1, 29, 0, 0, 0)), files[name])
    return path


def describe(path: Path, source: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1738108800"}
    return subprocess.run(
        [sys.executable, PROGRAM, path, source], env=env, capture_output=True, text=True, check=False
    )


def document_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = json.loads(archive.read(f"{INFO}/sboms/example.cdx.json"))
    return found


def vendored_in(path: Path) -> set[str]:
    return {each["name"] for each in document_of(path)["components"] if each["bom-ref"].startswith("vendored:")}


def test_what_was_compiled_in(source: Path, tmp_path: Path) -> None:
    made = wheel(tmp_path)
    done = describe(made, source)
    assert done.returncode == 0, done.stderr
    document = document_of(made)
    commit = git(source / "third_party" / "used", "rev-parse", "HEAD")
    parts = {each["bom-ref"]: each for each in document["components"]}

    assert document["metadata"]["component"]["purl"] == "pkg:pypi/example@1.0"
    assert document["metadata"]["timestamp"] == "2025-01-29T00:00:00Z"
    assert f"pkg:github/example/used@{commit}" in parts
    assert parts["vendored:miniz"]["version"] == "3.0.2"
    assert not [name for name in parts if "unused" in name]
    assert any(name.startswith("pkg:deb/") and "/libstdc++-" in name for name in parts), parts
    assert parts["vendored:source"]["version"] == git(source, "rev-parse", "HEAD")
    assert str(tmp_path) not in json.dumps(document)


def test_the_wheel_stays_one_and_is_the_same_bytes(source: Path, tmp_path: Path) -> None:
    made = wheel(tmp_path)
    assert describe(made, source).returncode == 0
    with zipfile.ZipFile(made) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-2:] == [f"{INFO}/sboms/example.cdx.json", f"{INFO}/RECORD"]
        rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(archive.read(f"{INFO}/RECORD").decode()))}
        data = archive.read(f"{INFO}/sboms/example.cdx.json")
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    assert rows[f"{INFO}/sboms/example.cdx.json"] == [f"sha256={digest}", str(len(data))]
    assert list(rows)[-1] == f"{INFO}/RECORD"

    (tmp_path / "again").mkdir()
    again = wheel(tmp_path / "again")
    assert describe(again, source).returncode == 0
    assert again.read_bytes() == made.read_bytes()


def test_a_wheel_whose_record_is_not_last_is_left_alone(source: Path, tmp_path: Path) -> None:
    made = wheel(tmp_path, last="WHEEL")
    before = made.read_bytes()
    done = describe(made, source)

    assert done.returncode == 1
    assert "RECORD is not the last entry" in done.stderr
    assert made.read_bytes() == before


def test_what_ninja_does_not_know_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty" / "build").mkdir(parents=True)
    made = wheel(tmp_path)
    done = describe(made, tmp_path / "empty")

    assert done.returncode == 0, done.stderr
    assert "ninja knows of nothing that was compiled" in done.stdout
    assert document_of(made)["components"] == []


def test_an_extension_that_was_built_over_by_the_next_one_counts(source: Path, tmp_path: Path) -> None:
    """torch's extensions have one folder, in which each writes its build.ninja in the place of the one before."""
    build = source / "build"
    (build / "build.ninja").write_text(NINJA.replace("own.o", "next.o").replace("own.cpp", "next.cpp"))
    (source / "next.cpp").write_text("int next() { return 0; }\n")
    subprocess.run(["ninja", "-C", build], check=True, capture_output=True)
    made = wheel(tmp_path)
    assert describe(made, source).returncode == 0
    both = vendored_in(made)

    (build / "CMakeCache.txt").write_text("")  # of CMake's, a target that is gone does not count: the folder may be kept
    assert describe(made := wheel(tmp_path), source).returncode == 0

    assert both == {"miniz", "source"}
    assert vendored_in(made) == {"source"}
