"""The test server against what Google documents; with raw HTTP, so that the client's habits hide nothing."""

from __future__ import annotations

import base64
import json
import os
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import google_crc32c
import pytest

from tests.gcs.harness import BUCKET, GcsServer

OBJECTS = f"/storage/v1/b/{BUCKET}/o"
UPLOAD = f"/upload/storage/v1/b/{BUCKET}/o"
KIB256 = 256 * 1024


def crc(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def put(server: GcsServer, name: str, data: bytes, query: str = "") -> tuple[int, dict[str, Any]]:
    status, _, body = server.request("POST", f"{UPLOAD}?uploadType=media&name={quote(name, safe='')}{query}", data)
    return status, json.loads(body)


def at(name: str) -> str:
    return f"{OBJECTS}/{quote(name, safe='')}"


@pytest.fixture
def name() -> str:
    return f"raw/{uuid.uuid4().hex}"


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize("quote_mark", ['"', "'", ""])
@pytest.mark.parametrize("data", [b"", b"x", b"ends with newline\r\n", b"\n\r\n--other\r\n", os.urandom(1000)])
def test_multipart_with_both_line_ends(
    gcs_server: GcsServer, name: str, newline: bytes, quote_mark: str, data: bytes
) -> None:
    meta = json.dumps({"name": name, "crc32c": crc(data), "metadata": {"k": "v"}}).encode()
    parts = [b"--BOUND", b"Content-Type: application/json", b"", meta, b"--BOUND", b"content-type: text/x", b"", data]
    body = newline.join([*parts, b"--BOUND--"])
    headers = {"Content-Type": f"multipart/related; boundary={quote_mark}BOUND{quote_mark}"}
    status, _, answer = gcs_server.request("POST", f"{UPLOAD}?uploadType=multipart", body, headers)
    resource = json.loads(answer)
    assert status == 200, answer
    assert (resource["size"], resource["contentType"], resource["metadata"]) == (str(len(data)), "text/x", {"k": "v"})
    assert gcs_server.request("GET", at(name) + "?alt=media")[2] == data


@pytest.mark.parametrize("wrong", ["crc32c=AAAAAA==", "md5=AAAAAAAAAAAAAAAAAAAAAA=="])
def test_a_wrong_checksum_stores_nothing(gcs_server: GcsServer, name: str, wrong: str) -> None:
    query = f"{UPLOAD}?uploadType=media&name={quote(name, safe='')}"
    status, _, body = gcs_server.request("POST", query, b"data", {"X-Goog-Hash": wrong})
    assert status == 400
    assert b"match" in body
    assert gcs_server.request("GET", at(name))[0] == 404


def test_resumable(gcs_server: GcsServer, name: str) -> None:
    data = os.urandom(2 * KIB256 + 100)
    start = f"{UPLOAD}?uploadType=resumable&ifGenerationMatch=0&name={quote(name, safe='')}"
    status, headers, _ = gcs_server.request("POST", start, b"{}")
    assert status == 200
    assert headers["Location"].startswith(gcs_server.url + "/upload/")
    session = urlsplit(headers["Location"])
    target = f"{session.path}?{session.query}"

    def chunk(given: str, body: bytes = b"") -> tuple[int, str | None]:
        status, headers, _ = gcs_server.request("PUT", target, body, {"Content-Range": given})
        return status, headers["Range"]

    total = len(data)
    assert chunk(f"bytes */{total}") == (308, None)
    # More than whole 256 KiB: the rest is dropped, and Range says so.
    assert chunk(f"bytes 0-{KIB256 + 9}/{total}", data[: KIB256 + 10]) == (308, f"bytes=0-{KIB256 - 1}")
    assert chunk(f"bytes */{total}") == (308, f"bytes=0-{KIB256 - 1}")
    assert chunk(f"bytes {2 * KIB256}-{total - 1}/{total}", data[2 * KIB256 :])[0] == 400  # a hole
    assert chunk(f"bytes 0-{2 * KIB256 - 1}/*", data[: 2 * KIB256]) == (308, f"bytes=0-{2 * KIB256 - 1}")  # overlap
    assert gcs_server.request("GET", at(name))[0] == 404  # nothing to be seen before the end
    assert chunk(f"bytes {2 * KIB256}-{total - 1}/{total}", data[2 * KIB256 :])[0] == 200
    assert chunk(f"bytes */{total}")[0] == 200  # asked again after a lost answer
    assert gcs_server.request("GET", at(name) + "?alt=media")[2] == data
    # The precondition holds at the start, too.
    assert gcs_server.request("POST", start, b"{}")[0] == 412


def test_resumable_checks_the_precondition_at_the_end(gcs_server: GcsServer, name: str) -> None:
    start = f"{UPLOAD}?uploadType=resumable&ifGenerationMatch=0&name={quote(name, safe='')}"
    session = urlsplit(gcs_server.request("POST", start, b"{}")[1]["Location"])
    put(gcs_server, name, b"first")
    target = f"{session.path}?{session.query}"
    assert gcs_server.request("PUT", target, b"second", {"Content-Range": "bytes 0-5/6"})[0] == 412
    assert gcs_server.request("GET", at(name) + "?alt=media")[2] == b"first"


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-2", 200, b"0123456789", None),
    ],
)
def test_ranges(
    gcs_server: GcsServer, name: str, asked: str, status: int, body: bytes | None, content_range: str | None
) -> None:
    resource = put(gcs_server, name, b"0123456789")[1]
    link = urlsplit(resource["mediaLink"])
    assert f"{link.scheme}://{link.netloc}" == gcs_server.url
    got = gcs_server.request("GET", f"{link.path}?{link.query}", headers={"Range": asked})
    assert (got[0], got[1]["Content-Range"]) == (status, content_range)
    assert got[1]["X-Goog-Generation"] == resource["generation"]
    if body is not None:
        assert got[2] == body
        assert f"crc32c={crc(b'0123456789')}" in str(got[1]["X-Goog-Hash"])


def test_the_four_preconditions_on_every_verb(gcs_server: GcsServer, name: str) -> None:
    resource = put(gcs_server, name, b"data")[1]
    generation, path = resource["generation"], at(name)
    good = [f"ifGenerationMatch={generation}", "ifGenerationNotMatch=5", "ifMetagenerationMatch=1"]
    good.append("ifMetagenerationNotMatch=9")
    match = ["ifGenerationMatch=5", "ifMetagenerationMatch=9"]
    not_match = [f"ifGenerationNotMatch={generation}", "ifMetagenerationNotMatch=1"]
    for reading in (path + "?alt=media&", path + "?", "/download" + path + "?"):
        assert [gcs_server.request("GET", reading + q)[0] for q in good] == [200] * 4
        assert [gcs_server.request("GET", reading + q)[0] for q in match] == [412] * 2
        assert [gcs_server.request("GET", reading + q)[0] for q in not_match] == [304] * 2
    for q in match + not_match:
        assert put(gcs_server, name, b"no", "&" + q)[0] == 412
        assert gcs_server.request("PATCH", f"{path}?{q}", b"{}")[0] == 412
        assert gcs_server.request("DELETE", f"{path}?{q}")[0] == 412
        body = json.dumps({"sourceObjects": [{"name": name}]}).encode()
        assert gcs_server.request("POST", f"{path}/compose?{q}", body)[0] == 412
    assert gcs_server.request("GET", path + "?alt=media")[2] == b"data"
    assert gcs_server.request("DELETE", f"{path}?{good[0]}")[0] == 204
    assert gcs_server.request("DELETE", path)[0] == 404


def test_patch_counts_metagenerations_and_generations_grow(gcs_server: GcsServer, name: str) -> None:
    first = put(gcs_server, name, b"1")[1]
    change = json.dumps({"customTime": "2026-01-01T00:00:00Z", "metadata": {"a": "b"}}).encode()
    patched = json.loads(gcs_server.request("PATCH", at(name), change)[2])
    assert (patched["generation"], patched["metageneration"]) == (first["generation"], "2")
    assert (patched["customTime"], patched["metadata"]) == ("2026-01-01T00:00:00Z", {"a": "b"})
    gcs_server.request("DELETE", at(name))
    second = put(gcs_server, name, b"2")[1]
    assert int(second["generation"]) > int(first["generation"])
    assert second["metageneration"] == "1"


def test_compose(gcs_server: GcsServer, name: str) -> None:
    sources = [f"{name}-{i}" for i in range(3)]
    for source in sources:
        put(gcs_server, source, source.encode())
    body = {"sourceObjects": [{"name": source} for source in sources], "destination": {"contentType": "text/x"}}
    status, _, answer = gcs_server.request("POST", at(name) + "/compose", json.dumps(body).encode())
    resource, whole = json.loads(answer), "".join(sources).encode()
    assert status == 200
    assert (resource["crc32c"], resource["componentCount"], "md5Hash" in resource) == (crc(whole), 3, False)
    assert gcs_server.request("GET", at(name) + "?alt=media")[2] == whole
    body["sourceObjects"] = [{"name": sources[0]}] * 33
    assert gcs_server.request("POST", at(name) + "/compose", json.dumps(body).encode())[0] == 400


def test_list_pages_prefixes_offsets_and_fields(gcs_server: GcsServer, name: str) -> None:
    names = [*sorted(f"{name}/{i % 3}/{i}" for i in range(25)), f"{name}/z"]
    for each in names:
        put(gcs_server, each, b"x")

    def pages(query: str) -> list[dict[str, Any]]:
        found, token = [], ""
        while True:
            page = json.loads(gcs_server.request("GET", f"{OBJECTS}?{query}&pageToken={quote(token)}")[2])
            found.append(page)
            token = page.get("nextPageToken", "")
            if not token:
                return found

    prefix = quote(name + "/", safe="")
    for most in (1, 7, 26, 1000):
        got = pages(f"prefix={prefix}&maxResults={most}")
        assert [item["name"] for page in got for item in page.get("items", [])] == names
        assert len(got) == -(-26 // most)
        got = pages(f"prefix={prefix}&delimiter=/&maxResults={most}")
        assert [p for page in got for p in page.get("prefixes", [])] == [f"{name}/{i}/" for i in range(3)]
        assert [item["name"] for page in got for item in page.get("items", [])] == [f"{name}/z"]
    start, end = quote(f"{name}/1", safe=""), quote(f"{name}/2", safe="")
    got = pages(f"prefix={prefix}&startOffset={start}&endOffset={end}")
    assert [item["name"] for page in got for item in page["items"]] == [n for n in names if n.startswith(f"{name}/1")]
    (page,) = pages(f"prefix={prefix}&fields=items(name,size),nextPageToken")
    assert page["items"][0] == {"name": names[0], "size": "1"}
    (page,) = pages(f"prefix={prefix}&fields=items/name")
    assert page == {"items": [{"name": n} for n in names]}


def test_buckets(gcs_server: GcsServer) -> None:
    bucket = f"b-{uuid.uuid4().hex}"
    body = json.dumps({"name": bucket, "lifecycle": {"rule": []}, "softDeletePolicy": {"x": 1}}).encode()
    assert gcs_server.request("POST", "/storage/v1/b?project=p", body)[0] == 200
    assert gcs_server.request("POST", "/storage/v1/b?project=p", body)[0] == 409
    change = json.dumps({"softDeletePolicy": {"retentionDurationSeconds": "0"}}).encode()
    assert gcs_server.request("PATCH", f"/storage/v1/b/{bucket}", change)[0] == 200
    got = json.loads(gcs_server.request("GET", f"/storage/v1/b/{bucket}")[2])
    assert got["softDeletePolicy"] == {"x": 1, "retentionDurationSeconds": "0"}
    assert (got["lifecycle"], got["metageneration"]) == ({"rule": []}, "2")
    assert gcs_server.request("GET", f"/storage/v1/b/{bucket}-no")[0] == 404


def test_odd_names_and_folders(gcs_server: GcsServer, name: str) -> None:
    odd = [name + "/a", name + "/a/b", name + "/..", name + "/% ?#&+é", name + "//", name + "/z" * 200]
    for each in odd:
        assert put(gcs_server, each, each.encode())[0] == 200
    for each in odd:
        assert gcs_server.request("GET", at(each) + "?alt=media")[2] == each.encode()


def test_one_write_a_second(gcs_server: GcsServer, name: str) -> None:
    gcs_server.config(one_write_per_second=True)
    statuses = [put(gcs_server, name, b"x")[0] for _ in range(20)]
    assert statuses[0] == 200
    assert 429 in statuses
    assert put(gcs_server, name + "-other", b"x")[0] == 200


def test_a_chunked_body(gcs_server: GcsServer, name: str) -> None:
    body = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
    target = f"{UPLOAD}?uploadType=media&name={quote(name, safe='')}"
    assert gcs_server.request("POST", target, body, {"Transfer-Encoding": "chunked"})[0] == 200
    assert gcs_server.request("GET", at(name) + "?alt=media")[2] == b"hello world"


def test_objects_outlive_the_process(tmp_path: Path) -> None:
    server = GcsServer("--dir", str(tmp_path))
    try:
        for each in ("a", "a/b", "gone"):
            put(server, each, each.encode())
        server.request("DELETE", at("gone"))
        before = server.request("GET", OBJECTS)[2].replace(server.url.encode(), b"")
    finally:
        server.close()
    server = GcsServer("--dir", str(tmp_path))
    try:
        assert server.request("GET", OBJECTS)[2].replace(server.url.encode(), b"") == before
        assert server.request("GET", at("a/b") + "?alt=media")[2] == b"a/b"
        first = json.loads(server.request("GET", at("a"))[2])["generation"]
        assert int(put(server, "a", b"2")[1]["generation"]) > int(first)
    finally:
        server.close()
