"""Archives of what tiers make, which may be anybody's, laid out; and what lies where they go."""

from __future__ import annotations

import tarfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.model import MadeFiles
from imagetiers.errors import BuildError, CorruptError
from imagetiers.planning.plan import TierPlan
from imagetiers.state import made_files
from tests.unit.state import test_archives as archives

FILE, LINK, HARD, FOLDER, FIFO = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE


def tier(key: str = "a" * 64, kind: str = "local", dest: str = "out") -> TierPlan:
    document = SimpleNamespace(content=lambda: {"args": {"KEY": key}})
    config = SimpleNamespace(output=MadeFiles(kind, dest))
    return cast(TierPlan, SimpleNamespace(name="report", key=key, config=config, key_document=document))


packed = partial(archives.packed, mtime=1_000_000_000)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "repository").mkdir()
    return Layout(tmp_path / "repository")


def test_it_lies_there_as_it_was_made(layout: Layout, tmp_path: Path) -> None:
    members = (("d", FOLDER, ""), ("d/a", FILE, b"one"), ("d/l", LINK, "../b"), ("b", FILE, b"two"), ("h", HARD, "b"))
    archive = packed(tmp_path / "x.tar", *members)
    assert made_files.lines_of(layout, tier()) == ("out is not there",)
    made_files.export(layout, tier(), archive, "image:report")
    out = layout.root / "out"
    assert (out / "d" / "l").read_text() == (out / "h").read_text() == "two"
    assert (out / "d" / "a").stat().st_mtime == 1_000_000_000
    assert made_files.lines_of(layout, tier()) == ()
    assert made_files.lines_of(layout, tier("b" * 64)) == (f"arg KEY: {'a' * 64} -> {'b' * 64}",)
    assert made_files.lines_of(layout, tier(kind="tar")) == ("out was written as local",)
    assert {path.name for path in layout.root.iterdir()} == {"out", ".imagetiers"}


@pytest.mark.parametrize(
    "members",
    [
        (("../a", FILE, b"x"),),
        (("/a", FILE, b"x"),),
        (("l", LINK, "/etc"),),
        (("l", LINK, "../../elsewhere"),),
        (("l", LINK, ".."), ("l/a", FILE, b"x")),
        (("a/b/c/s", LINK, "../../.."), ("t", LINK, "a/b/c/s/..")),
        (("a/b/s", LINK, "../.."), ("a/b/s/t", LINK, "../../x")),
        (("h", HARD, "../../secret"),),
        (("f", FIFO, ""),),
    ],
)
def test_nothing_leaves_its_folder(layout: Layout, tmp_path: Path, members: tuple[Any, ...]) -> None:
    made_files.export(layout, tier(), packed(tmp_path / "good.tar", ("a", FILE, b"good")), "image:report")
    (tmp_path / "secret").write_text("secret")
    before = sorted(path for path in tmp_path.rglob("*") if ".imagetiers" not in path.parts)
    with pytest.raises(CorruptError):
        made_files.export(layout, tier(), packed(tmp_path / "x.tar", *members), "image:report")
    (tmp_path / "x.tar").unlink()
    assert sorted(path for path in tmp_path.rglob("*") if ".imagetiers" not in path.parts) == before
    assert (layout.root / "out" / "a").read_text() == "good", "what was there before still is"


def test_no_archive_is_no_output(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(CorruptError, match="no archive"):
        made_files.export(layout, tier(), tmp_path / "x.tar", "image:report")


@pytest.mark.parametrize("kind", ["local", "tar"])
def test_a_place_that_is_a_link_is_not_written_through(layout: Layout, tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (layout.root / "out").symlink_to(tmp_path / "elsewhere")
    archive = packed(tmp_path / "x.tar", ("a", FILE, b"x"))
    for dest in ("out", "out/below"):
        with pytest.raises(BuildError, match="link"):
            made_files.export(layout, tier(kind=kind, dest=dest), archive, "image:report")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_in_place_of_a_folder_and_back(layout: Layout, tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.tar", ("a", FILE, b"x"))
    for kind in ("local", "tar", "local"):
        made_files.export(layout, tier(kind=kind), archive, "image:report")
        assert (layout.root / "out").is_dir() == (kind == "local")
        assert made_files.lines_of(layout, tier(kind=kind)) == ()
    made_files.clean(layout, tier())
    assert not (layout.root / "out").exists()


def test_without_an_exchange_it_is_two_renames(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_files.export(layout, tier(), packed(tmp_path / "x.tar", ("a", FILE, b"x")), "image:report")
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    made_files.export(layout, tier("b" * 64), packed(tmp_path / "y.tar", ("b", FILE, b"y")), "image:report")
    assert [path.name for path in (layout.root / "out").iterdir()] == ["b"]
    assert {path.name for path in layout.root.iterdir()} == {"out", ".imagetiers"}
