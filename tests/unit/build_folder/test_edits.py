"""Builds with a kept folder give the bits of builds without."""

from __future__ import annotations

import copy
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from imagetiers.build_folder import __main__
from imagetiers.building.build_folder import parts_of, read_report
from tests.unit.build_folder.project import ALWAYS, KINDS, NEVER, Built, Project, chosen

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("cmake", "ninja", "g++"))), reason="needs cmake, ninja and g++"
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path)


def both(project: Project, monkeypatch: pytest.MonkeyPatch) -> Built:
    """Build without the folder and with it: the bits are the same, or the test has failed."""
    without = project.build(monkeypatch, folder=False, keep=False)
    with_it = project.build(monkeypatch, folder=True)
    assert with_it.outputs == without.outputs
    return with_it


def test_a_source_alone_is_compiled_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first = both(project, monkeypatch)
    assert (first.used, first.why, first.kept) == (False, "there is none yet", "new")
    assert len(first.made) == 10
    project.add("src/plugin_a.cpp", "int more; int *address = &more;")
    second = both(project, monkeypatch)
    assert second.used
    assert second.made == ("CMakeFiles/demo.dir/src/plugin_a.cpp.o",)
    project.write(
        "include/demo/weights.h", "#pragma once\nnamespace demo { inline int weight(int at) { return at; } }\n"
    )
    third = both(project, monkeypatch)
    assert third.made == ("CMakeFiles/base.dir/src/numbers.cpp.o", "CMakeFiles/demo.dir/src/demo.cpp.o")
    assert both(project, monkeypatch).kept == "same"


CHANGES = [
    ("src/table.txt", "9 9", "src/table.txt has changed, which not only compilers read"),
    ("scripts/shape.py", "def text(rows): return 'const int table[6] = {0};'", "scripts/shape.py has changed"),
    ("src/maker.h", "#define MADE 1\n", "src/maker.h has changed"),
    ("src/maker.c", "int main() { return 1; }\n", "src/maker.c has changed"),
    ("include/demo/version.h", "#define VERSION_MINOR 7\n", "include/demo/version.h has changed"),
    ("src/config.h.in", '#define CONFIGURED "x"\n', "src/config.h.in has changed"),
    ("src/blob.bin", "another blob", "src/blob.bin has changed"),
    ("src/demo.map", "{ global: demo_value; demo_banner; local: *; };\n", "src/demo.map has changed"),
    ("include/demo/banner.h", '#define BANNER "other"\n', "include/demo/banner.h has changed"),
    ("cmake/options.cmake", "", "cmake/options.cmake has changed"),
    ("src/extra.h", "#define EXTRA 8\n", "src/extra.h is new: it might be found in the place of another"),
    ("README.md", None, "README.md is gone: it might be found in the place of another"),
]


def test_what_not_only_compilers_read_is_never_taken_for_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.build(monkeypatch, folder=True)
    for name, text, why in CHANGES:
        worker = copy.copy(project)
        worker.files = dict(project.files)
        worker.files.pop(name, None)
        if text is not None:
            worker.write(name, text)
        assert worker.restore(monkeypatch).startswith(why)
    for variable, value in (("flags", "-O3"), ("toolchain", "2")):
        worker = copy.copy(project)
        setattr(worker, variable, value)
        assert worker.restore(monkeypatch).startswith("it was not made with the same ")
    assert project.restore(monkeypatch) == ""


def test_a_table_that_changes_is_made_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.build(monkeypatch, folder=True)
    project.write("src/table.txt", "9 9")
    assert not both(project, monkeypatch).used


def test_what_a_script_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, folder in (("GIVEN", "given"), ("LEFT", "left"), ("STATE", "state")):
        monkeypatch.setattr(__main__, name, str(project.home / folder))
    project.build(monkeypatch, folder=True)
    shutil.rmtree(project.home / "state", ignore_errors=True)
    root = str(project.home / "src")
    shutil.rmtree(f"{root}/build")
    assert __main__.main(["restore", root, f"{root}/build"]) == __main__.CONFIGURE
    assert "not used: there is none yet" in capsys.readouterr().out

    project.restore(monkeypatch)
    shutil.rmtree(project.home / "state", ignore_errors=True)
    project._fresh(monkeypatch, folder=True)
    assert __main__.main(["restore", root, f"{root}/build"]) == 0
    assert "in use; changed: nothing" in capsys.readouterr().out
    assert __main__.main(["ninja", "-j", "2", "install"]) == 0
    assert __main__.main(["save"]) == 0
    report = read_report(project.home / "left")
    assert report is not None
    assert str(report) == "build folder used: 0 sources changed, 0 of 10 objects compiled"
    assert parts_of(project.home / "given", project.home / "left", report) == {}


def edits(project: Project, monkeypatch: pytest.MonkeyPatch, count: int, seed: int) -> list[tuple[str, str, Built]]:
    """Make so many edits, one after the other; each build has the folder of the one before."""
    rng = random.Random(seed)
    project.build(monkeypatch, folder=True)
    told = []
    before: list[Project] = []
    for _ in range(count):
        kind = rng.choice(KINDS)
        if kind == "reverted" and before:
            old = rng.choice(before)
            project.files, project.flags, project.toolchain = dict(old.files), old.flags, old.toolchain
            what = "to an earlier state"
        else:
            kind = "source" if kind == "reverted" else kind
            what = chosen(project, rng, kind)
        before = [*before[-4:], copy.copy(project)]
        before[-1].files = dict(project.files)
        built = both(project, monkeypatch)
        told.append((kind, what, built))
        print(f"{len(told):3} {kind:10} {what:60.60} {'used' if built.used else 'not used: ' + built.why}", flush=True)
        if kind in ALWAYS:
            assert built.used, (kind, what, built.why)
    return told


def test_random_edits(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    told = edits(project, monkeypatch, 3, seed=20)
    assert {built.used for _, _, built in told} == {True, False}


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_two_hundred_random_edits(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """IMAGETIERS_SEED chooses others. Prints a line for each, and a table."""
    told = edits(
        project,
        monkeypatch,
        int(os.environ.get("IMAGETIERS_EDITS", "200")),
        int(os.environ.get("IMAGETIERS_SEED", "1")),
    )
    counts = Counter((kind, built.used) for kind, _, built in told)
    print("| edit | folder used | not used |\n|---|---|---|")
    for kind in sorted({kind for kind, _ in counts}):
        print(f"| {kind} | {counts[kind, True]} | {counts[kind, False]} |")
    assert not any(built.used for kind, what, built in told if kind in NEVER and "another" in what)
