"""The patches of images/pytorch-clean: each is applied or is an error, and scanners are told of exactly what they end."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import HERE

IMAGE = HERE.parent / "images" / "pytorch-clean"
PROGRAM = IMAGE / "source" / "apply-patches"
PATCH = """\
--- a/said.txt
+++ b/said.txt
@@ -1,2 +1,3 @@
 one
+two
 three
--- /dev/null
+++ b/new.txt
@@ -0,0 +1 @@
+new
"""

needs_patch = pytest.mark.skipif(shutil.which("patch") is None, reason="needs patch, as the images have it")


def apply(folder: Path) -> subprocess.CompletedProcess[str]:
    argv = ["bash", str(PROGRAM), str(folder / "patches"), str(folder / "src")]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for tree in ("tree", "absent"):
        (tmp_path / "patches" / tree).mkdir(parents=True)
        (tmp_path / "patches" / tree / "1.patch").write_text(PATCH)
    (tmp_path / "src" / "tree").mkdir(parents=True)
    (tmp_path / "src" / "tree" / "said.txt").write_text("one\nthree\n")
    (tmp_path / "src" / "tree" / "said.txt").chmod(0o666)
    return tmp_path


@needs_patch
def test_a_patch_is_applied_to_the_tree_of_its_folder(folder: Path) -> None:
    done = apply(folder)

    assert done.returncode == 0, done.stderr
    tree = folder / "src" / "tree"
    assert {path.name: path.read_text() for path in tree.iterdir()} == {
        "said.txt": "one\ntwo\nthree\n",
        "new.txt": "new\n",
    }
    assert {path.stat().st_mode & 0o777 for path in tree.iterdir()} == {0o666}, "who compiles does not own the tree"


@needs_patch
def test_a_patch_that_the_source_has_or_that_does_not_fit_is_an_error(folder: Path) -> None:
    assert apply(folder).returncode == 0
    again = apply(folder)
    assert again.returncode == 1
    assert "tree/1.patch does not fit this source" in again.stderr

    (folder / "src" / "tree" / "new.txt").unlink()
    (folder / "src" / "tree" / "said.txt").write_text("another text\n")
    assert apply(folder).returncode == 1
    assert (folder / "src" / "tree" / "said.txt").read_text() == "another text\n"


def test_scanners_are_told_of_what_the_patches_end() -> None:
    patches = sorted((IMAGE / "source" / "patches").glob("*/*.patch"))
    statements = json.loads((IMAGE / "patched.openvex.json").read_text())["statements"]

    ended = {name for path in patches for name in re.findall(r"CVE-[0-9]+-[0-9]+", path.read_text())}
    assert patches
    assert ended == {statement["vulnerability"]["name"] for statement in statements}
    assert {statement["status"] for statement in statements} == {"fixed"}
