"""Parts of a folder: what nobody has touched is not packed again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagetiers.build_folder import parts
from imagetiers.build_folder.parts import Placed

FILES = {"a/one.o": b"one", "a/two.o": b"two", "b/three.o": b"three", "c/four.o": b"four", "big.o": b"x" * (5 << 20)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, data in FILES.items():
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_bytes(data)
    return tmp_path / "root"


def packed(root: Path, name: str, same: Placed | None = None) -> dict[str, Path]:
    folder = root.parent / name
    folder.mkdir()
    parts.pack(str(root), ["a", "b", "c", *FILES], str(folder), same)
    return {path.name: path for path in sorted(folder.iterdir())}


def placed(root: Path, name: str) -> Placed:
    """Put the parts into a place of their own, as a fresh worker does."""
    for path in FILES:
        (root / path).unlink()
    parts.unpack(str(root.parent / name), str(root))
    probe = root.parent / "moment"
    probe.write_bytes(b"")
    return Placed(str(root.parent / name), probe.stat().st_ctime_ns)


def test_a_part_whose_files_are_as_they_were_placed_is_a_link(root: Path) -> None:
    first = packed(root, "first")
    same = placed(root, "first")
    while (root.parent / "moment").stat().st_ctime_ns <= (root / "a/one.o").stat().st_ctime_ns:
        (root.parent / "moment").touch()  # a clock that ticks seldom
        same = Placed(same.folder, (root.parent / "moment").stat().st_ctime_ns)
    (root / "a/two.o").write_bytes(b"another")
    second = packed(root, "second", same)

    assert second.keys() == first.keys()
    changed = {name for name, path in second.items() if not path.samefile(first[name])}
    assert changed == {parts._of("a/two.o") + ".tar", "zz-folders.tar"}
    again = packed(root, "again")
    assert all(path.read_bytes() == again[name].read_bytes() for name, path in second.items())


def test_a_file_that_grows_into_a_part_of_its_own_leaves_the_other(root: Path) -> None:
    packed(root, "first")
    same = placed(root, "first")
    (root / "a/one.o").write_bytes(b"x" * (6 << 20))
    (root / "big.o").write_bytes(b"small")
    second, whole = packed(root, "second", same), packed(root, "whole")

    assert {name: path.read_bytes() for name, path in second.items()} == {
        name: path.read_bytes() for name, path in whole.items()
    }


def test_a_change_that_keeps_its_time_is_seen(root: Path) -> None:
    packed(root, "first")
    same = placed(root, "first")
    status = (root / "b/three.o").stat()
    (root / "b/three.o").write_bytes(b"THREE")
    os.utime(root / "b/three.o", ns=(status.st_atime_ns, status.st_mtime_ns))
    second, whole = packed(root, "second", same), packed(root, "whole")

    name = parts._of("b/three.o") + ".tar"
    assert second[name].read_bytes() == whole[name].read_bytes()


def test_parts_that_are_gone_are_made_again(root: Path) -> None:
    first = packed(root, "first")
    same = placed(root, "first")
    for path in first.values():
        path.unlink()
    assert packed(root, "second", same).keys() == first.keys()
