"""What an image's layers come to: whiteouts, links of both kinds, compression, and what is damaged."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
from pathlib import Path
from typing import IO

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from imagetiers.binaries.elf import FormatError, read_loading
from imagetiers.layers.archive import read_images, read_saved
from imagetiers.layers.model import FileKind, FileLayer, LayerError, ReadOptions
from imagetiers.layers.read import read_layer
from tests.unit.layers.trees import (
    EVERYTHING,
    FOLDER,
    Member,
    elf,
    hardlink,
    image,
    saved,
    saved_together,
    symlink,
    tar,
)

LOWER: dict[str, Member | bytes] = {
    "etc/": FOLDER,
    "etc/motd": b"lower",
    "etc/gone": b"x",
    "opt/": FOLDER,
    "opt/a/": FOLDER,
    "opt/a/one": b"1",
    "opt/a/two": b"2",
    "usr/bin/tool": Member(b"t", 0o4755),
    "bin": symlink("usr/bin"),
}


def test_the_upper_layer_wins_and_whiteouts_remove() -> None:
    tree = image(
        LOWER, {"etc/motd": b"upper", "etc/.wh.gone": b"", "opt/a/.wh..wh..opq": b"", "opt/a/three": b"3"}
    ).tree

    assert tree.find("/etc/motd").content == b"upper"  # type: ignore[union-attr]
    assert [path for path in tree.entries if path.startswith(("/etc", "/opt"))] == [
        "/etc",
        "/etc/motd",
        "/opt",
        "/opt/a",
        "/opt/a/three",
    ]


def test_a_whiteout_of_a_folder_removes_what_is_below_and_not_what_its_own_layer_adds() -> None:
    tree = image(LOWER, {"opt/.wh.a": b"", "opt/a/": FOLDER, "opt/a/new": b"n"}).tree

    assert [path for path in tree.entries if path.startswith("/opt/a/")] == ["/opt/a/new"]


def test_a_file_takes_the_place_of_a_folder_and_a_folder_that_of_a_file() -> None:
    tree = image(LOWER, {"opt/a": b"a file", "etc/motd/": FOLDER, "etc/motd/x": b"x"}).tree

    assert tree.at("/opt/a").kind is FileKind.FILE  # type: ignore[union-attr]
    assert tree.find("/opt/a/one") is None
    assert tree.find("/etc/motd/x") is not None


def test_links_are_followed_and_circles_end() -> None:
    tree = image(
        LOWER,
        {
            "loop": symlink("loop2"),
            "loop2": symlink("/loop"),
            "up": symlink("../../etc/motd"),
            "deep": symlink("bin/../bin/tool"),
            "nowhere": symlink("gone"),
            "file/": FOLDER,
            "file/x": symlink("/etc/motd/y"),
        },
    ).tree

    assert tree.find("/bin/tool").path == "/usr/bin/tool"  # type: ignore[union-attr]
    assert tree.find("/deep").path == "/usr/bin/tool"  # type: ignore[union-attr]
    assert tree.find("/up").path == "/etc/motd"  # type: ignore[union-attr]
    assert [tree.find(path) for path in ("/loop", "/nowhere", "/file/x", "/etc/motd/z")] == [None] * 4
    assert tree.at("/nowhere").target == "gone"  # type: ignore[union-attr]
    assert tree.find("/bin/..").path == "/usr"  # type: ignore[union-attr]


def test_a_hard_link_is_the_file_itself_also_of_a_layer_below() -> None:
    tree = image(LOWER, {"same": b"content", "other": hardlink("same"), "tool": hardlink("usr/bin/tool")}).tree

    assert tree.find("/tool").mode == 0o4755  # type: ignore[union-attr]
    assert tree.find("/other").size == 7  # type: ignore[union-attr]
    with pytest.raises(LayerError, match="hard link to /nowhere"):
        image({"x": hardlink("nowhere")})


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress, zstandard.compress], ids=["no", "gzip", "zstd"])
def test_layers_are_read_compressed_or_not(compress) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    data = saved([compress(tar(LOWER))])

    found = read_saved(iter([data]), EVERYTHING)

    assert found.tree.find("/etc/motd").content == b"lower"  # type: ignore[union-attr]


def test_a_layer_is_read_once_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagetiers.layers.archive._SMALL", 2000)
    lower = tar({"etc/passwd": b"remembered", "etc/x": b"y" * 5000})
    read: list[ReadOptions] = []

    def counted(stream: IO[bytes], wanted: ReadOptions) -> FileLayer:
        read.append(wanted)
        return read_layer(stream, wanted)

    monkeypatch.setattr("imagetiers.layers.archive.read_layer", counted)

    parent = read_saved(iter([saved([lower])]), EVERYTHING)
    child = read_saved(iter([saved([lower, tar({"child": b"c"})])]), EVERYTHING)
    less = read_saved(iter([saved([lower])]), ReadOptions())
    more = read_saved(iter([saved([lower])]), ReadOptions(contents=frozenset({"x"})))

    assert read == [EVERYTHING, EVERYTHING, ReadOptions(contents=frozenset({"x"}))]
    assert parent.tree.find("/etc/passwd") == child.tree.find("/etc/passwd") == less.tree.find("/etc/passwd")
    assert child.tree.find("/child") is not None
    found = more.tree.find("/etc/x")
    assert found is not None
    assert found.content == b"y" * 5000


def test_images_of_one_archive_share_layers_and_are_told_by_their_tags() -> None:
    lower, upper = tar({"etc/motd": b"lower"}), tar({"etc/motd": b"upper"})

    found = read_images(iter([saved_together({"a:1": [lower], "b:1": [lower, upper]})]), EVERYTHING)

    assert [image.tags for image in found] == [("a:1",), ("b:1",)]
    assert [len(image.files().layers) for image in found] == [1, 2]
    texts = [image.files().tree.find("/etc/motd") for image in found]
    assert [text.content for text in texts if text is not None] == [b"lower", b"upper"]
    with pytest.raises(LayerError, match="one image"):
        read_saved(iter([saved_together({"a:1": [lower], "b:1": [lower]})]), EVERYTHING)


def test_layers_that_wait_are_read_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagetiers.layers.archive._SMALL", 2000)
    lower, upper, broken = tar({"etc/a": b"waits" * 500}), tar({"etc/b": b"waits too" * 500}), b"no tar" * 500
    data = saved_together({"a:1": [lower], "b:1": [lower, upper], "c:1": [broken]})
    first = [f"sha256:{hashlib.sha256(lower).hexdigest()}"]

    a, b, c = read_images(iter([data]), EVERYTHING, first, tmp_path)

    assert list(a.archive.layers) == list(a.names), "the others have only been written down"
    assert b.files().tree.find("/etc/b").size == len(b"waits too" * 500)  # type: ignore[union-attr]
    assert list(b.archive.layers) == list(b.names)
    with pytest.raises(LayerError):
        c.files()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [100, 1000, 5000])
def test_an_archive_that_ends_early_is_an_error(cut: int) -> None:
    data = saved([tar(LOWER)])

    with pytest.raises(LayerError):
        read_saved(iter([data[:cut]]), EVERYTHING)


@pytest.mark.parametrize(
    "damage",
    [b"not a tar" * 200, gzip.compress(b"x" * 5000), gzip.compress(tar(LOWER))[:200], b"\x28\xb5\x2f\xfd no zstd"],
    ids=["no tar", "no tar in gzip", "cut", "no zstd"],
)
def test_a_layer_that_is_none_is_an_error(damage: bytes) -> None:
    with pytest.raises(LayerError):
        read_layer(io.BytesIO(damage), EVERYTHING)
    with pytest.raises(LayerError):
        read_saved(iter([saved([damage])]), EVERYTHING)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive at all" * 100,
        tar({"manifest.json": b"[]"}),
        tar({"manifest.json": b'[{"Config": "x", "Layers": []}]'}),
        tar({"manifest.json": b'[{"Config": "c", "Layers": ["gone"]}]', "c": b'{"config": {}}'}),
        tar({"manifest.json": b"{"}),
    ],
)
def test_what_is_no_images_archive_is_an_error(data: bytes) -> None:
    with pytest.raises(LayerError):
        read_saved(iter([data]), ReadOptions())


def test_a_large_library_is_read_from_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagetiers.layers.read._IN_MEMORY", 100)
    monkeypatch.setattr("imagetiers.layers.read._PIECE", 64)
    found = image({"lib.so": elf("libz.so.1", soname="lib.so.1")}).tree.find("/lib.so")

    assert found is not None
    assert found.elf is not None
    assert (found.elf.needed, found.elf.soname) == (("libz.so.1",), "lib.so.1")


def test_what_a_real_program_needs() -> None:
    read = read_loading(Path(sys.executable).resolve().read_bytes())

    assert read is not None
    assert "libc.so.6" in read.needed
    assert read.interpreter.startswith("/lib")


@given(st.data())
def test_damage_of_an_elf_file_is_a_format_error_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(elf("liba.so", "libb.so", soname="x", runpath="$ORIGIN", interpreter="/lib/ld.so"))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for damaged in (bytes(whole), cut):
        try:
            read_loading(damaged)
        except FormatError:
            continue


def test_only_what_is_asked_for_is_kept() -> None:
    tree = image({"etc/motd": b"m", "lib.so": elf(), "id": b"ghp_" + b"x" * 36}, wanted=ReadOptions()).tree

    assert all(entry.content is None and entry.elf is None and not entry.credentials for entry in tree.entries.values())
