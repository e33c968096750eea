"""Archives that anybody may have made: what is unpacked stays in its folder, and has a bound; all else is one error."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagetiers.errors import CorruptError
from imagetiers.state.archives import (
    LATEST,
    ArchiveLimits,
    ArchiveReader,
    LinkFault,
    Member,
    is_name,
    link_fault,
)

FILE, LINK, HARD, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
LIMITS = ArchiveLimits(members=20, size=10_000)
Given = tuple[str, bytes, str | bytes]
"""A member: its name, its type, and its content or target."""


def packed(path: Path, *members: Given, form: int = tarfile.PAX_FORMAT, **changes: object) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            for key, changed in changes.items():
                setattr(info, key, changed)
            if isinstance(value, bytes):
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value))
            else:
                info.linkname = value
                tar.addfile(info)
    return path


def unpack(archive: Path, limits: ArchiveLimits = LIMITS) -> Mapping[str, Member]:
    place = archive.parent / "in" / "here"
    place.mkdir(parents=True)
    with ArchiveReader(archive, limits) as reader:
        return reader.unpack(place)


def test_files_folders_and_links(tmp_path: Path) -> None:
    members: tuple[Given, ...] = (
        ("./", FOLDER, ""),
        ("./a/b/file", FILE, b"one"),
        ("a", FOLDER, ""),
        ("a/l", LINK, "b/file"),
        ("a/dangling", LINK, "later"),
        ("hard", HARD, "a/b/file"),
        ("hard2", HARD, "hard"),
    )
    found = unpack(packed(tmp_path / "x.tar", *members, mode=0o4751, mtime=1e9))
    place = tmp_path / "in" / "here"

    assert {path: str(member.kind) for path, member in found.items()} == {
        "a": "folder", "a/b": "folder", "a/b/file": "file", "a/l": "link", "a/dangling": "link",
        "hard": "file", "hard2": "file",
    }  # fmt: skip
    assert (found["a/b/file"].mode, found["a/b/file"].mtime, found["a/b/file"].size) == (0o751, 1_000_000_000, 3)
    assert found["hard2"].sha256 == found["a/b/file"].sha256 != ""
    assert (place / "hard2").read_text() == (place / "a" / "l").read_text() == "one"
    assert (place / "hard").stat().st_nlink == 1
    assert not (place / "a" / "b" / "file").stat().st_mode & stat.S_ISUID


REFUSED: dict[str, tuple[Given, ...]] = {
    "above": (("../x", FILE, b"x"),),
    "above, later": (("a/../../x", FILE, b"x"),),
    "a folder above": (("../x/", FOLDER, ""),),
    "absolute": (("/x", FILE, b"x"),),
    "through a link": (("l", LINK, ".."), ("l/x", FILE, b"x")),
    "through a link in a folder": (("a/l", LINK, "../.."), ("a/l/x", FILE, b"x")),
    "over a link": (("l", LINK, "../x"), ("l", FILE, b"x")),
    "a folder over a link": (("l", LINK, ".."), ("l", FOLDER, ""), ("l/x", FILE, b"x")),
    "a link over a folder": (("l", FOLDER, ""), ("l", LINK, ".."), ("l/x", FILE, b"x")),
    "below a file": (("f", FILE, b"x"), ("f/x", FILE, b"x")),
    "a file over a folder": (("a/b", FILE, b"x"), ("a", FILE, b"x")),
    "twice": (("f", FILE, b"x"), ("./f", FILE, b"y")),
    "a hard link out": (("h", HARD, "../secret"),),
    "an absolute hard link": (("h", HARD, "/etc/passwd"),),
    "a hard link to what comes later": (("h", HARD, "f"), ("f", FILE, b"x")),
    "a hard link through a link": (("l", LINK, "../.."), ("h", HARD, "l/secret")),
    "a hard link to a folder": (("a", FOLDER, ""), ("h", HARD, "a")),
    "a pipe": (("x", tarfile.FIFOTYPE, ""),),
    "a character device": (("x", tarfile.CHRTYPE, ""),),
    "a block device": (("x", tarfile.BLKTYPE, ""),),
    "what nobody knows": (("x", b"Z", ""),),
    "the folder as a link": ((".", LINK, ".."),),
    "a name of two lines": (("a\nb", FILE, b"x"),),
    "a name that is no text": (("a\udcff", FILE, b"x"),),
    "a name that no file system takes": (("a" * 256, FILE, b"x"),),
    "a path that is too long": (("a/" * 500 + "b", FILE, b"x"),),
    "too many": tuple((f"f{number}", FILE, b"") for number in range(21)),
    "too large": (("a", FILE, b"x" * 6000), ("b", FILE, b"x" * 6000)),
    "too large by hard links": (("a", FILE, b"x" * 6000), ("b", HARD, "a")),
}


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED)
def test_what_breaks_the_rules(members: tuple[Given, ...], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    archive = packed(tmp_path / "x.tar", *members)
    with pytest.raises(CorruptError):
        unpack(archive)
    outside = [path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "in" / "here")]
    assert sorted(path.name for path in outside) == ["in", "secret", "x.tar"]
    for path in (tmp_path / "in" / "here").rglob("*"):
        assert path.is_symlink() or path.is_dir() or path.read_bytes().strip(b"x") == b"", "nothing of the secret"


def extended(size: int, data: bytes = b"") -> Callable[[Path], None]:
    """Write a GNU long name that claims so many bytes."""

    def write(path: Path) -> None:
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + data)

    return write


def headers(path: Path) -> None:
    """Write extended headers of extended headers."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 512
    path.write_bytes((info.tobuf(tarfile.USTAR_FORMAT) + b"9 path=x\n".ljust(512, b"\0")) * 3000)


def sparse(path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_SPARSE
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def cut(size: int, content: bytes = b"") -> Callable[[Path], None]:
    """Write an archive of two files, and no more of it than so many bytes."""

    def write(path: Path) -> None:
        packed(path, ("a", FILE, content), ("b", FILE, b""))
        os.truncate(path, size)

    return write


def damaged(path: Path) -> None:
    packed(path, ("a", FILE, b""), ("b", FILE, b""))
    data = bytearray(path.read_bytes())
    data[512 + 150] ^= 1  # the check sum of the second header
    path.write_bytes(data)


MALFORMED: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: path.write_bytes(b""),
    "a page": lambda path: path.write_bytes(b"<html>captive portal</html>" * 100),
    "a header of 4 GB": extended(4 << 30),
    "a header of 2 MB": extended(2 << 20, b"a" * (2 << 20)),
    "headers of headers": headers,
    "a sparse file": sparse,
    "cut off in a file": cut(1000, b"x" * 2000),
    "cut off in a header": cut(900),
    "cut off behind a file": cut(512),
    "cut off before its end": cut(1024),
    "a header that is damaged": damaged,
    "fewer bytes than none": lambda path: packed(path, ("a", FILE, ""), pax_headers={"size": "-512"}),
    "a size that is none": lambda path: packed(path, ("a", FILE, ""), pax_headers={"GNU.sparse.size": "9" * 5000}),
}


@pytest.mark.parametrize("write", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / "x.tar")
    with pytest.raises(CorruptError):
        unpack(tmp_path / "x.tar")


@pytest.mark.parametrize(("said", "kept"), [("nan", 0), ("-5", 0), ("1e300", LATEST), ("1.9", 1)])
def test_times_are_such_as_every_archive_can_say(said: str, kept: int, tmp_path: Path) -> None:
    assert unpack(packed(tmp_path / "x.tar", ("a", FILE, ""), pax_headers={"mtime": said}))["a"].mtime == kept


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_an_archive_with_any_bytes_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever is changed: it is refused, or stays in its folder."""
    root = tmp_path_factory.mktemp("t")
    archive = packed(root / "x.tar", ("a", FOLDER, ""), ("a/f", FILE, b"x"), ("a/l", LINK, "f"), ("h", HARD, "a/f"))
    good = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    archive.write_bytes(good)
    with contextlib.suppress(CorruptError):
        unpack(archive)
    assert sorted(path.name for path in root.iterdir()) == ["in", "x.tar"]
    assert [path.name for path in (root / "in").iterdir()] == ["here"]


KINDS = {"a": "folder", "a/b": "folder", "a/f": "file", "a/up": "link", "me": "link", "far": "link", "abs": "link"}
TARGETS = {"a/up": "..", "me": "me", "far": "a/up/a/up/..", "abs": "/etc"}


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("f", None),
        ("b/../f", None),
        (".", None),
        ("../a", None),
        ("up/a/f", None),
        ("..", None),
        ("../..", LinkFault.LEAVES),
        ("up/..", LinkFault.LEAVES),
        ("nothing", LinkFault.DANGLES),
        ("nothing/../../..", LinkFault.LEAVES),
        ("f/x", LinkFault.DANGLES),
        ("../me", LinkFault.CIRCLES),
        ("../far", LinkFault.LEAVES),
        ("../abs", LinkFault.ABSOLUTE),
        ("/a/f", LinkFault.ABSOLUTE),
    ],
)
def test_where_a_link_leads(target: str, fault: LinkFault | None) -> None:
    assert link_fault("a/l", {**KINDS, "a/l": "link"}, {**TARGETS, "a/l": target}) == fault


def test_names() -> None:
    assert all(map(is_name, ("a", "a/b", "...", "a b/é", "a" * 255)))
    assert not any(map(is_name, ("", "/", "/a", "a//b", "a/", ".", "a/../b", "a\x00", "\udcff", "é" * 128)))
