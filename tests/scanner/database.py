"""A database of trivy's, as its own program builds it: a bbolt file of buckets in buckets. Small, and made by the tests.

Source: go.etcd.io/bbolt (page.go, db.go), the file format 2; aquasecurity/trivy-db, schema 2.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

_SIZE = 4096
_META, _FREE, _LEAF = 4, 16, 2
_MAGIC, _VERSION = 0xED0CDAED, 2
Bucket: TypeAlias = "dict[bytes, bytes | Bucket]"


def write_database(
    folder: Path, advisories: Mapping[str, Mapping[str, Mapping[str, str]]], severities: Mapping[str, str], updated: str
) -> Path:
    """Write trivy's files below a folder, as --cache-dir has them.

    `advisories` are by distribution (`debian 13`), source package and vulnerability the version with the fix, '' for none;
    or by what trivy calls the advisories of a language (`pip::GitHub Security Advisory Pip`), by package.
    """
    root: Bucket = {
        source.encode(): {
            package.encode(): {
                id_.encode(): _json(_advisory(fixed, language="::" in source)) for id_, fixed in those.items()
            }
            for package, those in packages.items()
        }
        for source, packages in advisories.items()
    }
    root[b"data-source"] = {source.encode(): _json({"ID": "debian", "Name": "tests"}) for source in advisories}
    root[b"vulnerability"] = {
        id_.encode(): _json({"Title": id_, "Severity": level}) for id_, level in severities.items()
    }
    path = folder / "db"
    path.mkdir(parents=True, exist_ok=True)
    (path / "trivy.db").write_bytes(_file(root))
    (path / "metadata.json").write_text(
        json.dumps({"Version": 2, "NextUpdate": updated, "UpdatedAt": updated, "DownloadedAt": updated})
    )
    return folder


def _advisory(fixed: str, *, language: bool) -> dict[str, Any]:
    if not language:
        return {"FixedVersion": fixed} if fixed else {}
    return {"PatchedVersions": [fixed] if fixed else [], "VulnerableVersions": [f"<{fixed}" if fixed else ">=0"]}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _file(root: Bucket) -> bytes:
    pages = -(-len(_page(3, root)) // _SIZE)
    body = _page(3, root, pages - 1).ljust(pages * _SIZE, b"\0")
    free = struct.pack("<QHHI", 2, _FREE, 0, 0).ljust(_SIZE, b"\0")
    return b"".join(_meta(number, 3 + pages) for number in (0, 1)) + free + body


def _meta(number: int, end: int) -> bytes:
    meta = struct.pack("<IIIIQQQQQ", _MAGIC, _VERSION, _SIZE, 0, 3, 0, 2, end, number)
    return (struct.pack("<QHHI", number, _META, 0, 0) + meta + struct.pack("<Q", _fnv(meta))).ljust(_SIZE, b"\0")


def _page(number: int, bucket: Bucket, overflow: int = 0) -> bytes:
    """Return a leaf page; buckets in it are pages within their values."""
    heads, data = b"", b""
    for at, (key, value) in enumerate(sorted(bucket.items())):
        whole = struct.pack("<QQ", 0, 0) + _page(0, value) if isinstance(value, dict) else value
        heads += struct.pack(
            "<IIII", isinstance(value, dict), (len(bucket) - at) * 16 + len(data), len(key), len(whole)
        )
        data += key + whole
    return struct.pack("<QHHI", number, _LEAF, len(bucket), overflow) + heads + data


def _fnv(data: bytes) -> int:
    found = 0xCBF29CE484222325
    for byte in data:
        found = ((found ^ byte) * 0x100000001B3) % (1 << 64)
    return found
