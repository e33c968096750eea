"""Whether finished wheels, or other outputs, are all there as they were made: disks lose files, and people clean up by hand.

Hashing gigabytes at each `doit` would cost seconds, so a mark in the state folder keeps what was hashed, with sizes and
times: it saves the hashing for as long as both are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.documents import parse_object

__all__ = [
    "MAX_LIST_BYTES",
    "MAX_OUTPUTS",
    "MAX_OUTPUTS_LIST_BYTES",
    "OUTPUTS",
    "OUTPUTS_LIST",
    "WHEELS_LIST",
    "describe",
    "entries_below",
    "file_sha256",
    "mark_whole",
    "what_is_wrong",
]

WHEELS_LIST = "wheels.json"  # names and sha256; written last, so a folder that holds it is whole
MAX_LIST_BYTES = 64 << 10
OUTPUTS = "outputs"  # the folder of what is not wheels alone
OUTPUTS_LIST = "outputs.json"  # beside it: paths, and what is there; written last, too
MAX_OUTPUTS = 10_000
MAX_OUTPUTS_LIST_BYTES = 32 << 20
Stats = Mapping[str, list[int]]


@dataclass(frozen=True, slots=True)
class _Form:
    """How a folder says what it holds: its list, of so many bytes at most, where that lies, and what there is of it.

    `stats` gives by name a size first, and whatever else changes with what is there; `describe` what the list has of it.
    """

    list: str
    longest: int
    below: str
    stats: Callable[[Path], Stats]
    describe: Callable[[Path], str]


def what_is_wrong(layout: Layout, key: str) -> str | None:
    """Say what is wrong with what a compile key has made: nothing (None), or why it counts as absent.

    An empty text: there is nothing. Raises OSError where the folder cannot be read.
    """
    form = _form(layout.wheels(key))
    folder = layout.wheels(key) / form.below
    try:
        data = _list_of(layout.wheels(key), form)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    listed = parse_object(data) if len(data) <= form.longest else None
    if not listed:
        return f"{form.list} lists nothing"
    found = form.stats(folder)
    foreign = min(found.keys() - listed, default="")
    if foreign:
        return f"{foreign[:100]} is not listed"
    known = _marked(layout, key, data)
    for name, told in sorted(listed.items()):
        if name not in found:
            return f"{name[:100]} is gone"
        if known.get(name) != found[name] and form.describe(folder / name) != told:
            return f"{name[:100]} is not what was made: {found[name][0]} bytes"
    if known != found:
        mark_whole(layout, key)
    return None


def _form(folder: Path) -> _Form:
    return _OTHERS if os.path.lexists(folder / OUTPUTS_LIST) else _WHEELS


def _list_of(folder: Path, form: _Form) -> bytes:
    """Read the list, as far as one may be long; of what is no file nothing."""
    path = folder / form.list
    if not stat.S_ISREG(path.lstat().st_mode):
        return b""
    with path.open("rb") as file:
        return file.read(form.longest + 1)


def mark_whole(layout: Layout, key: str) -> None:
    """Note that what a key has made, as it lies there now, is what its list says. A full disk is no reason to fail."""
    folder = layout.wheels(key)
    form = _form(folder)
    path = _mark(layout, key)
    with contextlib.suppress(OSError):
        data = (folder / form.list).read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        files = form.stats(folder / form.below)
        text = json.dumps({"list": hashlib.sha256(data).hexdigest(), "files": files}, sort_keys=True)
        path.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path) -> str:
    """Return what the list of outputs says of what is there. Raises OSError.

    `file MODE SHA256`, `folder MODE` or `link TARGET`; of anything else that it is none of these.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link {os.readlink(path)}"  # noqa: PTH115  pathlib would tidy it
    if stat.S_ISDIR(mode):
        return f"folder {stat.S_IMODE(mode) & 0o777:o}"
    return f"file {stat.S_IMODE(mode):o} {file_sha256(path)}" if stat.S_ISREG(mode) else "something else"


def entries_below(folder: Path, most: int = MAX_OUTPUTS) -> Stats | None:
    """Return all that lies below a folder, by path: size, time (ns) and mode. None of more than `most`. Raises OSError.

    A folder's own time is none of what it holds.
    """
    found: dict[str, list[int]] = {}
    todo = [""]
    while todo:
        above = todo.pop()
        with os.scandir(folder / above) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                is_folder = stat.S_ISDIR(status.st_mode)
                path = f"{above}{entry.name}"
                found[path] = [*((0, 0) if is_folder else (status.st_size, status.st_mtime_ns)), status.st_mode]
                todo += [f"{path}/"] if is_folder else []
                if len(found) > most:
                    return None
    return found


def _outputs(folder: Path) -> Stats:
    return entries_below(folder) or {}


def _mark(layout: Layout, key: str) -> Path:
    return layout.state / "wheels" / key


def _wheels(folder: Path) -> Stats:
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


_WHEELS = _Form(WHEELS_LIST, MAX_LIST_BYTES, "", _wheels, file_sha256)
_OTHERS = _Form(OUTPUTS_LIST, MAX_OUTPUTS_LIST_BYTES, OUTPUTS, _outputs, describe)
