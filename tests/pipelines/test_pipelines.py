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

from imagetiers.config.layout import Layout
from imagetiers.errors import PipelineError
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.keys import short
from imagetiers.planning.make import make_plan
from imagetiers.visible import visible
from tests.conftest import Golden, edit
from tests.engine.conftest import Checkout

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
    assert said.startswith("accepted: ") or said.count("\n  hint: ") == (said.count("\n") + 1) // 2, "one has no hint"
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


def test_hundreds_of_problems_are_told_at_once(tiny: Layout) -> None:
    """They come in the order of the file, and none twice."""
    wrong = "\n".join(f"  t{number}: {{parent: t{number}}}" for number in range(450))
    edit("pipeline.yaml", "variants:", f"{wrong}\nvariants:")(tiny)

    with pytest.raises(PipelineError) as caught:
        load_repository(tiny, None)

    told = [problem for problem in caught.value.problems if "its own ancestor" in problem.what]
    assert len(told) == len(set(told)) == 450


def test_a_chain_that_no_image_can_be(tiny: Layout) -> None:
    deep = "\n".join(f"  t{n}: {{parent: {f't{n - 1}' if n else 'arr-training'}}}" for n in range(150))
    edit("pipeline.yaml", "variants:", f"{deep}\nvariants:")(tiny)

    told = [line for line in what_is_said(tiny, None).splitlines() if "ancestors" in line]

    assert told == [
        "pipeline.yaml:110:17: tiers.t98.parent: has 101 ancestors; the limit is 100, because an image has at most 127 layers"
    ]


@pytest.mark.parametrize(
    ("line", "entry", "said"),
    [
        ("variants:", "  t{}: {{parent: arr-base}}\n", "tiers: has 10,003 entries; the limit is 10,000"),
        ("  shouting:", "  v{}: {{gpus: []}}\n", "variants: has 10,001 entries; the limit is 100"),
    ],
    ids=["tiers", "variants"],
)
def test_more_than_anybody_writes(line: str, entry: str, said: str, tiny: Layout) -> None:
    edit("pipeline.yaml", line, "".join(entry.format(n) for n in range(10_000)) + line)(tiny)

    (told,) = what_is_said(tiny, None).splitlines()[::2]

    assert told.startswith("pipeline.yaml:")
    assert told.endswith(said)


@pytest.mark.timeout(20)
def test_a_line_of_many_stars_takes_no_time(tiny: Layout) -> None:
    (tiny.root / "images/arr-base" / ("a" * 200)).touch()
    (tiny.root / "images/arr-base/.image-manifest").write_text(f"config\n{'*a' * 40}b\n**/{'a*' * 40}/**/*b*/x\n")

    assert what_is_said(tiny, None).count("nothing matches") == 2


def test_a_folder_that_may_not_be_read(tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in it might be an input; it was passed over without a word."""
    listed = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("config"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)

    assert (
        "images/arr-base/config: cannot be read: Permission denied\n  hint: run as a user who may read it"
        in what_is_said(tiny, None)
    )


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_file_without_end(place: str, tiny: Layout) -> None:
    path = tiny.root / place
    path.touch()
    os.truncate(path, 1 << 40)

    said = what_is_said(tiny, None)

    assert said.startswith(f"{place}: is ")
    assert "1,099,511,627,776 bytes" in said


@pytest.mark.parametrize("place", ["images/arr-base/Dockerfile", "images/arr-base/config/arr-base.txt"])
def test_a_file_that_changes_while_it_is_read(place: str, tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    path, status = tiny.root / place, os.fstat

    def write(descriptor: int) -> os.stat_result:
        before = status(descriptor)
        if os.path.samestat(before, path.stat()):
            with path.open("a") as file:
                file.write("# more\n")
        return before

    monkeypatch.setattr(os, "fstat", write)

    assert what_is_said(tiny, None) == (
        f"{place}: was changed each time that it was read\n  hint: run doit again when nothing writes there any more"
    )


def test_an_input_that_vanishes(tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def remove(path: Path, *args: int, **kwargs: int) -> int:
        if str(path).endswith("arr-base.txt"):
            Path(path).unlink()
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", remove)

    assert what_is_said(tiny, None).startswith("images/arr-base/config/arr-base.txt: vanished while it was read")


def test_an_input_that_turns_into_a_pipe(tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def replace(path: Path, *args: int, **kwargs: int) -> int:
        if str(path).endswith("arr-base.txt"):
            Path(path).unlink()
            os.mkfifo(path)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", replace)

    assert what_is_said(tiny, None).startswith("images/arr-base/config/arr-base.txt: is a pipe, but must be a file")


def test_a_tier_whose_folder_lies_elsewhere(tiny: Layout) -> None:
    shutil.move(tiny.tier("arr-base"), tiny.root.parent / "elsewhere")
    tiny.tier("arr-base").symlink_to("../../elsewhere")

    what = "tiers.arr-base: images/arr-base is a link to ../../elsewhere, outside of the repository"
    assert what_is_said(tiny, None) == f"pipeline.yaml:10:13: {what}\n  hint: move the folder here"


def test_a_link_whose_target_is_not_utf8(tiny: Layout) -> None:
    (tiny.root / "images/arr-base/config/link").symlink_to("caf\udce9")

    assert what_is_said(tiny, None).startswith("images/arr-base/config/link: the link's target is not UTF-8")


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("many-problems", None),
        ("yaml-tab-indent", None),
        ("variant-removes-tiers", "bare"),
        ("yaml-escape-sequence", None),
    ],
)
def test_the_command_says_the_same(name: str, variant: str | None, offline: Checkout) -> None:
    """Through the real doit: exit code 3, nothing on stdout, no traceback."""
    lay_over(HERE / name, Layout(offline.root))

    run = offline.doit("check", *([f"variant={variant}"] if variant else []))

    assert (run.code, run.out) == (3, "")
    assert "Traceback" not in run.text
    for line in (HERE / name / "expected.txt").read_text().splitlines():
        assert line in run.err
