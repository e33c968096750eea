"""What others may have written is taken as what it says, or not at all: never a traceback."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagetiers.adapters.registry import _blobs, _contents, _image_info
from imagetiers.config.layout import Layout
from imagetiers.documents import is_digest, parse_object
from imagetiers.errors import CorruptError, RegistryError
from imagetiers.planning.keys import FILES_LEFT_OUT, read_key_document
from imagetiers.planning.observed import ImageInfo, Present
from imagetiers.state import wheels

DIGEST = "sha256:" + "a" * 64
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just(DIGEST),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "1", "null", '"x"', "{", '{"a": NaN}', '{"a": Infinity}', "[" * 100_000, '{"a":' * 100_000,
        "{" + '"a":1,' * 3, '{"a": ' + "9" * 10_000 + "}", "\ud800", "<html>",
    ],
)  # fmt: skip
def test_what_is_no_object(text: str) -> None:
    assert parse_object(text) is None
    assert parse_object(text.encode("utf-8", "surrogatepass")) is None


def test_what_is_no_utf8() -> None:
    assert parse_object(b'{"a": "\xff"}') is None


@pytest.mark.parametrize("value", [None, 7, "", "sha256:abc", DIGEST + "\n", DIGEST.upper(), "md5:" + "a" * 64])
def test_what_is_no_digest(value: object) -> None:
    assert not is_digest(value)
    assert is_digest(DIGEST)


MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "config": {"digest": DIGEST, "size": 7},
    "layers": [{"digest": "sha256:" + "b" * 64, "size": 5}],
}


def test_a_good_manifest() -> None:
    body = json.dumps(MANIFEST).encode()

    assert _contents("r", body) == (DIGEST, (("sha256:" + "b" * 64, 5),))
    assert _blobs("r", body) == {DIGEST: 7, "sha256:" + "b" * 64: 5}
    assert _contents("r", b'{"manifests": []}') == ("", ())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a manifest with one part of it replaced by anything."""
    document = json.loads(json.dumps(MANIFEST))
    path = draw(st.sampled_from([("config",), ("layers",), ("config", "digest"), ("config", "size"), ("layers", 0)]))
    path = (*path, *draw(st.sampled_from([(), ("digest",), ("size",)]))) if path == ("layers", 0) else path
    inner: Any = document
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = draw(JSON)
    return json.dumps(document).encode()


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged() | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_a_manifest_that_is_none_is_said_to_be_none(body: bytes) -> None:
    readers: tuple[Callable[[str, bytes], object], ...] = (_contents, _blobs)
    for read in readers:
        try:
            found = read("host/a:1", body)
        except RegistryError:
            continue
        image, layers = found if isinstance(found, tuple) else (next(iter(found), ""), ())  # type: ignore[call-overload]
        assert image == "" or is_digest(image)
        assert all(is_digest(digest) and size >= 0 for digest, size in layers)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from(["config", "created", "x"]), JSON | st.dictionaries(st.just("Labels"), JSON)) | JSON
)
def test_labels_of_an_image_that_somebody_made(document: Any) -> None:
    blob = json.dumps(document).encode()
    answer = Present(DIGEST, f"sha256:{hashlib.sha256(blob).hexdigest()}", 1)
    try:
        info = _image_info("host/a:1", answer, blob)
    except RegistryError:
        return

    assert isinstance(info, ImageInfo)
    assert all(isinstance(text, str) for text in (info.key, info.trust, info.tier, info.key_document))


def test_a_key_manifest_is_held_against_its_key() -> None:
    text = json.dumps({"stages": {"a": ["FROM b"]}, "files": {}})
    key = hashlib.sha256(text.encode()).hexdigest()

    assert read_key_document(text, key) == json.loads(text)
    assert read_key_document(text, "0" * 64) is None
    assert read_key_document("{}", key) is None
    shortened = json.dumps({"stages": {}, "files": {FILES_LEFT_OUT: ["9", ""]}})
    assert read_key_document(shortened, key) is not None
    for text in ('{"stages": 7}', '{"stages": {"a": 7}}', '{"files": []}', '{"args": [1]}', '{"run": "x"}'):
        assert read_key_document(text, hashlib.sha256(text.encode()).hexdigest()) is None


def archive(*members: tuple[str, bytes], **changes: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in changes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


WHEEL = b"wheel"
LISTED = json.dumps({"a-1.whl": hashlib.sha256(WHEEL).hexdigest()}).encode()


def unpack(data: bytes, tmp_path: Path) -> Path:
    packed = tmp_path / "packed.tar"
    packed.write_bytes(data)
    wheels._unpack(packed, tmp_path / "unpacked")
    return tmp_path / "unpacked"


def test_a_good_wheelhouse(tmp_path: Path) -> None:
    folder = unpack(archive(("a-1.whl", WHEEL), (wheels.WHEELS_LIST, LISTED)), tmp_path)

    assert (folder / "a-1.whl").read_bytes() == WHEEL


GOOD_LIST = (wheels.WHEELS_LIST, LISTED)
HOSTILE = {
    "nothing": b"",
    "no tar": b"<html>captive portal</html>" * 100,
    "no list": archive(("a-1.whl", WHEEL)),
    "another wheel": archive(("a-1.whl", b"evil"), GOOD_LIST),
    "one more wheel": archive(("a-1.whl", WHEEL), ("b-1.whl", WHEEL), GOOD_LIST),
    "one wheel twice": archive(("a-1.whl", b"evil"), ("a-1.whl", WHEEL), GOOD_LIST),
    "pip.conf": archive(("a-1.whl", WHEEL), ("pip.conf", b"x"), GOOD_LIST),
    "sitecustomize.py": archive(("a-1.whl", WHEEL), ("sitecustomize.py", b"x"), GOOD_LIST),
    "above": archive(("../a-1.whl", WHEEL), GOOD_LIST),
    "absolute": archive(("/tmp/a-1.whl", WHEEL), GOOD_LIST),
    "hidden": archive((".a-1.whl", WHEEL), GOOD_LIST),
    "a long name": archive(("a" * 300 + ".whl", WHEEL), GOOD_LIST),
    "a NUL": archive(("a\0-1.whl", WHEEL), GOOD_LIST),
    "a link": archive(("a-1.whl", b""), GOOD_LIST, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": archive(("a-1.whl", b""), GOOD_LIST, type=tarfile.LNKTYPE, linkname="b"),
    "a device": archive(("a-1.whl", b""), GOOD_LIST, type=tarfile.CHRTYPE),
    "a folder": archive(("a-1.whl", b""), GOOD_LIST, type=tarfile.DIRTYPE),
    "a pax header": archive(("a-1.whl", WHEEL), GOOD_LIST, pax_headers={"GNU.sparse.map": "0,1"}),
    "a sparse file": archive(("a-1.whl", WHEEL), GOOD_LIST, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
    "a deep list": archive(("a-1.whl", WHEEL), (wheels.WHEELS_LIST, b'{"a":' * 9_000)),
    "a list that is a list": archive(("a-1.whl", WHEEL), (wheels.WHEELS_LIST, b"[]")),
    "an endless list": archive(("a-1.whl", WHEEL), (wheels.WHEELS_LIST, b" " * 100_000)),
    "cut off": archive(("a-1.whl", WHEEL), GOOD_LIST)[:700],
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_wheelhouse(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(CorruptError):
        unpack(data, tmp_path)
    assert not (tmp_path / "a-1.whl").exists()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_wheelhouse_with_any_byte_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever is changed: it is refused, or the wheels are those of the list."""
    good = bytearray(archive(("a-1.whl", WHEEL), GOOD_LIST))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, 2047))] = data.draw(st.integers(0, 255))
    try:
        folder = unpack(bytes(good), tmp_path_factory.mktemp("w"))
    except CorruptError:
        return
    listed = json.loads((folder / wheels.WHEELS_LIST).read_text())
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.whl")} == listed


def test_what_an_untrusted_build_leaves_lies_apart(tmp_path: Path) -> None:
    own, others = Layout(tmp_path), Layout(tmp_path, apart="untrusted/pr-7/")

    assert others.wheels("k") == tmp_path / ".imagetiers/untrusted/pr-7/wheels/k"
    for path in ("state", "locks"):
        assert getattr(own, path) != getattr(others, path)
    assert own.ccache("n") != others.ccache("n")
