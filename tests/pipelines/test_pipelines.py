"""Wrong and odd pipelines, one folder a case, and the whole text that each of them gets.

A folder holds `files/`, which are laid over tests/repos/tiny; `removed.txt`, what is taken away from it first; `variant.txt`,
the variant that is asked for; and `expected.txt`. What is right, although it is odd, is `accepted`, with the keys.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from imagetiers.errors import PipelineError
from imagetiers.keys import short
from imagetiers.layout import Layout
from imagetiers.plan import make_plan
from imagetiers.repository import load_repository
from imagetiers.visible import visible
from tests.conftest import Golden, edit

HERE = Path(__file__).parent
CASES = sorted(folder for folder in HERE.iterdir() if folder.is_dir() and not folder.name.startswith("__"))
DAY = date(2026, 11, 21)
Change = Callable[[Layout], object]


def lay_over(case: Path, layout: Layout) -> None:
    removed = case / "removed.txt"
    for path in removed.read_text().split() if removed.exists() else ():
        target = layout.root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    for source in sorted((case / "files").rglob("*")):
        target = layout.root / source.relative_to(case / "files")
        if source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink())
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def what_is_said(layout: Layout, variant: str | None) -> str:
    try:
        plan = make_plan(load_repository(layout, variant), DAY)
    except PipelineError as error:
        return visible(str(error).replace(str(layout.root), "HERE"))
    return "accepted: " + ", ".join(f"{tier.name} {short(tier.key)}" for tier in plan.tiers.values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_said(case: Path, tiny: Layout, golden: Golden) -> None:
    lay_over(case, tiny)
    wanted = case / "variant.txt"

    said = what_is_said(tiny, wanted.read_text().strip() if wanted.exists() else None)

    golden(said + "\n", case / "expected.txt")
    assert len(said) < 4000, "nobody reads on"
    for line in said.splitlines():
        assert line.startswith(("accepted: ", "  hint: ", "variant=")) or line.partition(":")[2], "it says no place"


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 250


# What no repository can hold: pipes, sockets, devices, names that are not UTF-8, files that may not be read.
PLACES = {
    "pipeline.yaml": "pipeline.yaml",
    "pipeline.lock.yaml": "pipeline.lock.yaml",
    "a Dockerfile": "images/arr-base/Dockerfile",
    "a manifest": "images/arr-base/.image-manifest",
    "a verify.py": "images/arr-base/verify.py",
    "an input": "images/arr-base/config/arr-base.txt",
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is at most 107 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path.name)
    finally:
        os.chdir(here)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.timeout(10)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize(("kind", "make"), [("a pipe", pipe), ("a socket", listener), ("a folder", folder)])
def test_something_else_than_a_file(place: str, kind: str, make: Callable[[Path], None], tiny: Layout) -> None:
    path = tiny.root / place
    path.unlink(missing_ok=True)
    make(path)

    said = what_is_said(tiny, None)

    if kind == "a folder" and place == PLACES["an input"]:  # an empty folder is nothing at all
        assert "nothing matches 'config'" in said
    else:
        # A socket cannot even be opened to look what it is.
        assert f"{place}: is {kind}, but must be a file" in said or f"{place}: cannot be read: No such device" in said
    assert said.count("hint:") <= 2, said


def test_a_device(tiny: Layout) -> None:
    manifest = tiny.root / "images/arr-base/.image-manifest"
    manifest.unlink()
    manifest.symlink_to("/dev/zero")

    assert what_is_said(tiny, None).startswith("images/arr-base/.image-manifest: is a device, but must be a file")


def test_a_name_that_is_not_utf8(tiny: Layout) -> None:
    name = os.fsencode(tiny.root / "images/arr-base/config") + b"/caf\xe9"
    with open(name, "wb"):  # noqa: PTH123  pathlib takes no bytes
        pass

    assert what_is_said(tiny, None) == (
        "images/arr-base/config/caf\\udce9: the file's name is not UTF-8\n  hint: rename it, or exclude it in the manifest"
    )


def test_a_file_that_may_not_be_read(tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(path: str, *args: int, **kwargs: int) -> int:
        if str(path).endswith("pipeline.yaml"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)

    assert what_is_said(tiny, None) == (
        "pipeline.yaml: cannot be read: Permission denied\n  hint: run as a user who may read it"
    )


def test_a_thousand_problems_are_told_at_once(tiny: Layout) -> None:
    """They come in the order of the file, and none twice."""
    wrong = "\n".join(f"  t{number}: {{parent: t{number}}}" for number in range(1000))
    edit("pipeline.yaml", "variants:", f"{wrong}\nvariants:")(tiny)

    with pytest.raises(PipelineError) as caught:
        load_repository(tiny, None)

    told = [problem for problem in caught.value.problems if "its own ancestor" in problem.what]
    assert len(told) == len(set(told)) == 1000
