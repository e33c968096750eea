"""Whether finished wheels are all there as they were made: disks lose files, and people clean up by hand.

Hashing gigabytes at each `doit` would cost seconds, so a mark in the state folder keeps what was hashed, with sizes and
times: it saves the hashing for as long as both are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.documents import parse_object

__all__ = ["MAX_LIST_BYTES", "WHEELS_LIST", "file_sha256", "mark_whole", "what_is_wrong"]

WHEELS_LIST = "wheels.json"  # names and sha256; written last, so a folder that holds it is whole
MAX_LIST_BYTES = 64 << 10


def what_is_wrong(layout: Layout, key: str) -> str | None:
    """Say what is wrong with the wheels of a compile key: nothing (None), or why they count as absent.

    An empty text: there are none. Raises OSError where the folder cannot be read.
    """
    folder = layout.wheels(key)
    try:
        data = _list_of(folder)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    listed = parse_object(data) if len(data) <= MAX_LIST_BYTES else None
    if not listed:
        return f"{WHEELS_LIST} lists nothing"
    found = _stats(folder)
    foreign = min(found.keys() - listed, default="")
    if foreign:
        return f"{foreign[:100]} is not listed"
    known = _marked(layout, key, data)
    for name, sha256 in sorted(listed.items()):
        if name not in found:
            return f"{name[:100]} is gone"
        if known.get(name) != found[name] and file_sha256(folder / name) != sha256:
            return f"{name[:100]} is not what was made: {found[name][0]} bytes"
    if known != found:
        mark_whole(layout, key)
    return None


def _list_of(folder: Path) -> bytes:
    """Read the list, as far as one may be long; of what is no file nothing."""
    path = folder / WHEELS_LIST
    if not stat.S_ISREG(path.lstat().st_mode):
        return b""
    with path.open("rb") as file:
        return file.read(MAX_LIST_BYTES + 1)


def mark_whole(layout: Layout, key: str) -> None:
    """Note that the wheels of a key, as they lie there now, are what their list says. A full disk is no reason to fail."""
    folder = layout.wheels(key)
    path = _mark(layout, key)
    with contextlib.suppress(OSError):
        data = (folder / WHEELS_LIST).read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"list": hashlib.sha256(data).hexdigest(), "files": _stats(folder)}, sort_keys=True)
        path.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mark(layout: Layout, key: str) -> Path:
    return layout.state / "wheels" / key


def _stats(folder: Path) -> Mapping[str, list[int]]:
    """Return sizes and times (ns) of the wheels that lie there as plain files."""
    found = {}
    for path in folder.glob("*.whl"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            found[path.name] = [status.st_size, status.st_mtime_ns]
    return found


def _marked(layout: Layout, key: str, listed: bytes) -> Mapping[str, object]:
    """Return what the mark says of the files, if it is one of this very list."""
    try:
        mark = parse_object(_mark(layout, key).read_bytes())
    except OSError:
        return {}
    files = mark.get("files") if mark is not None and mark.get("list") == hashlib.sha256(listed).hexdigest() else None
    return files if isinstance(files, dict) else {}
