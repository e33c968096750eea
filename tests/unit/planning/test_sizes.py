"""What an image weighs, from archives as the engine writes them: hidden bytes and who hid them, folders, packages."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from imagetiers.layers.archive import ImageFiles, read_saved
from imagetiers.layers.model import ReadOptions
from imagetiers.planning.sizes import Made, Repetition, attribute, weigh_image
from tests.unit.layers.trees import hardlink, image

FOLDER = object()
Files = Mapping[str, bytes | object]


def tar(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            if content is FOLDER:
                info.type = tarfile.DIRTYPE
                made.addfile(info)
            elif isinstance(content, bytes):
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, str(content)
                made.addfile(info)
    return out.getvalue()


def saved(layers: Sequence[bytes], history: Sequence[tuple[str, bool]] = (), *, manifest_first: bool = False) -> bytes:
    names = [f"blobs/sha256/{number:064}" for number in range(len(layers))]
    entries = [{"created_by": text, **({"empty_layer": True} if empty else {})} for text, empty in history]
    documents: Files = {
        "blobs/sha256/config": json.dumps({"config": {}, "history": entries}).encode(),
        "manifest.json": json.dumps([{"Config": "blobs/sha256/config", "Layers": names}]).encode(),
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
    }
    blobs: Files = dict(zip(names, layers, strict=True))
    return tar({**documents, **blobs} if manifest_first else {**blobs, **documents})


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read(archive: Iterator[bytes]) -> ImageFiles:
    return read_saved(archive, ReadOptions(sizes=True))


def contents(*layers: Files, history: Sequence[tuple[str, bool]] = ()) -> ImageFiles:
    return read(pieces(saved([tar(files) for files in layers], history)))


def found(*layers: Files) -> list[tuple[int, Repetition, int, int, str]]:
    return [
        (each.layer, each.how, each.size, each.files, each.path)
        for each in weigh_image(contents(*layers).layers).duplicates
    ]


A, B, C = b"a" * 100, b"b" * 200, b"c" * 400


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("manifest_first", [True, False])
def test_layers_in_any_packing_and_order(pack: object, manifest_first: bool) -> None:  # noqa: FBT001
    layers = [pack(tar({"usr/a": A, "usr/l": "a"})), pack(tar({"./usr/b/": FOLDER, "./usr/b/c": B}))]  # type: ignore[operator]
    sizes = weigh_image(read(pieces(saved(layers, manifest_first=manifest_first), 7)).layers)

    assert (sizes.layers, sizes.total, sizes.visible, sizes.duplicates) == ((100, 200), 300, 300, ())


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"a": A}, {"a": B}], [(1, Repetition.REPLACED, 100, 1, "/a")]),
        ([{"a": A}, {"a": A}], [(1, Repetition.TOUCHED, 100, 1, "/a")]),
        ([{"a": A}, {".wh.a": b""}], [(1, Repetition.REMOVED, 100, 1, "/a")]),
        ([{"w/a": A, "w/b": B}, {".wh.w": b""}], [(1, Repetition.REMOVED, 300, 2, "/w/")]),
        ([{"w/a": A, "v/b": B}, {"w/.wh..wh..opq": b"", "w/c": C}], [(1, Repetition.REMOVED, 100, 1, "/w/a")]),
        ([{"w/c": C, "w/.wh..wh..opq": b""}, {"w/a": A}], []),
        ([{"w": A}, {"w": FOLDER, "w/b": B}], [(1, Repetition.REPLACED, 100, 1, "/w")]),
        ([{"a": A}, {"b": A}], [(1, Repetition.COPIED, 100, 1, "/b")]),
        ([{"a": A, "b": A}], [(0, Repetition.COPIED, 100, 1, "/b")]),
        ([{"a": A}, {".wh.a": b""}, {"a": A}], [(1, Repetition.REMOVED, 100, 1, "/a")]),
        ([{"a": b"", "b": b""}], []),
        ([{"a": A, "l": "a"}, {"l": "b"}], []),
    ],
)
def test_what_stands_there_twice(layers: list[Files], expected: list[object]) -> None:
    assert found(*layers) == expected


def test_only_layers_from_a_number_on_count() -> None:
    sizes = weigh_image(contents({"a": A, "x": B, "y": B}, {"c": C}, {"a": B, "d": C}).layers)

    assert [sizes.duplicate_bytes(since) for since in (0, 1, 2, 3)] == [900, 700, 700, 0]


def test_folders_and_packages() -> None:
    site = "opt/venv/lib/python3.13/site-packages"
    record = 'torch/a.py,,\n../../../bin/torchrun,,\n"torch/with,comma",,\n'
    sizes = weigh_image(
        contents(
            {
                f"{site}/torch/a.py": C,
                "opt/venv/bin/torchrun": A,
                f"{site}/torch-2.6.0.dist-info/RECORD": record.encode(),
                "var/lib/dpkg/info/libc6:amd64.list": b"/.\n/usr\n/usr/lib/libc.so\n",
                "usr/lib/libc.so": B,
            },
            {"usr/lib/libc.so": C},
        ).layers
    )

    assert sizes.packages == (("torch 2.6.0", 500), ("libc6 (dpkg)", 400))
    assert sizes.folders[0] == ("/opt/venv", 500 + len(record))


HISTORY = [
    ("/bin/sh -c #(nop) ADD file:1 in /", False),
    ("ARG X=1", True),
    ("COPY a /a # buildkit", False),
    ("RUN |1 X=1 /bin/sh -c make # buildkit", False),
    ('CMD ["true"]', True),
]
OURS = [("D:3", "ARG"), ("D:4", "COPY"), ("D:5", "RUN"), ("D:6", "CMD")]


def test_layers_are_those_of_the_dockerfiles_lines() -> None:
    made = attribute(contents({"x": A}, {"a": B}, {"m": C}, history=HISTORY), OURS)

    assert made == (Made("", "#(nop) ADD file:1 in /"), Made("D:4", "COPY a /a"), Made("D:5", "RUN make"))


@pytest.mark.parametrize("ours", [OURS[::-1], [("D:1", "RUN")] * 9, [("D:2", "RUN"), *OURS]])
def test_a_history_that_is_another_ones_is_nobodys(ours: list[tuple[str, str]]) -> None:
    assert {each.where for each in attribute(contents({"x": A}, {"a": B}, {"m": C}, history=HISTORY), ours)} == {""}


def test_a_file_of_several_names_weighs_once() -> None:
    sizes = weigh_image(
        image({"a": A, "b": hardlink("a"), "c": A}, {"b": b"n" * 7}, wanted=ReadOptions(sizes=True)).layers
    )

    assert (sizes.layers, sizes.visible) == ((200, 7), 207)
    assert [(each.how, each.size, each.path) for each in sizes.duplicates] == [(Repetition.COPIED, 100, "/c")]


def test_lists_of_packages_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagetiers.layers.read._MOST_CONTENT", 100)
    lists = {f"{name}.dist-info/RECORD": b"x.py,,\n" * 8 for name in ("a-1", "b-1", "c-1")}
    sizes = weigh_image(contents({"x.py": A, **lists}).layers)

    assert sizes.packages == (("a 1", 100),)


PATHS = st.sampled_from(
    ["a", "b", "d", "d/a", "d/b", "d/e/a", ".wh.a", ".wh.d", "d/.wh.a", "d/.wh..wh..opq", "d/e/.wh.a"]
)
LAYER = st.dictionaries(PATHS, st.sampled_from([b"", b"1", b"22", b"333"]), max_size=5)


@given(st.lists(LAYER, max_size=5))
def test_every_byte_is_seen_or_hidden_once(layers: list[dict[str, bytes]]) -> None:
    sizes = weigh_image(contents(*layers).layers)
    hidden = sum(each.size for each in sizes.duplicates if each.how is not Repetition.COPIED)

    assert sizes.total == sizes.visible + hidden
