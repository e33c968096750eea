"""Entries too large for a pack: objects of their own, streamed from and to files, so that memory stays bounded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import xxhash

from imagetiers.ccache.format.entry import HEADER_MAX, TRAILER, Kind, parse_header, path_of
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.pack import Codec, PackRef, SectionRef, Slot
from imagetiers.ccache.local import LocalEntry, settle
from imagetiers.ccache.namespace import Namespace
from imagetiers.errors import CorruptError, NotFoundError

__all__ = ["CheckedFile", "check_file", "check_size", "fetch_bare", "send_bare"]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What reading a large entry file once showed; it is an intact entry of that kind."""

    kind: Kind
    self_contained: bool
    created: int
    content: bytes
    size: int
    sha256: str


def check_file(path: Path, name: str) -> CheckedFile:
    """Check an entry file's header and checksum in one pass of bounded memory. Raises CorruptError, OSError."""
    inner, outer = xxhash.xxh3_128(), hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = parse_header(os.pread(file.fileno(), HEADER_MAX, 0), name)
        left = size - TRAILER
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            inner.update(chunk)
            outer.update(chunk)
            left -= len(chunk)
        content = file.read(TRAILER)
        outer.update(content)
    if left > 0 or len(content) != TRAILER or inner.digest() != content:
        raise CorruptError.of(name, "the entry's checksum does not match its content")
    if not header.compressed and size != header.entry_size:
        raise CorruptError.of(name, "the entry's size does not match its header")
    return CheckedFile(header.kind, header.self_contained, header.created, content, size, outer.hexdigest())


def send_bare(space: Namespace, name: str, file: LocalEntry) -> Entry | str | None:
    """Store a large entry; return where it lies, or why it was skipped, or None when it vanished. Raises StoreError.

    A hard link holds this version of it while it is read twice, whatever ccache does meanwhile.
    """
    held = Path(f"{file.path}.tmp.{secrets.token_hex(4)}")
    try:
        os.link(file.path, held)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{name}: {error}"
    try:
        checked = _checked(held, name)
        if isinstance(checked, str):
            return checked
        pack = PackRef(f"{checked.sha256}-{space.nonce}", checked.size)
        space.create_file(space.object("packs", pack.name), held)
    finally:
        with contextlib.suppress(OSError):
            held.unlink()
    section = SectionRef(Codec.BARE, checked.kind, 1, 0, checked.size, checked.size)
    slot = Slot(name, 0, checked.size, checked.size, checked.content, checked.created, file.mtime)
    return Entry(slot, section, pack)


def check_size(space: Namespace, pack: PackRef) -> None:
    """Raise CorruptError unless an object is as large as its name was listed with: before its bytes fill the disk."""
    where = space.object("packs", pack.name)
    blob = space.store.stat(where)
    if blob is None:
        raise NotFoundError.of(where, "no such object")
    if blob.size != pack.size:
        raise CorruptError.of(where, f"the object has {blob.size} bytes and not {pack.size}")


def fetch_bare(space: Namespace, entry: Entry, directory: str, mtime: int, *, replace: bool) -> bool:
    """Stream a large entry into the cache directory; say whether it was put there. Raises StoreError, OSError."""
    final = f"{directory}/{path_of(entry.name)}"
    temporary = Path(f"{final}.tmp.{secrets.token_hex(4)}")
    try:
        check_size(space, entry.pack)
        space.store.read_file(space.object("packs", entry.pack.name), temporary)
        checked = check_file(temporary, entry.name)
        found = (checked.sha256, checked.content, checked.size, checked.kind)
        if found != (entry.pack.sha256, entry.slot.content, entry.slot.size, entry.kind):
            raise CorruptError.of(entry.name, "the entry is not the one that the index says")
        os.utime(temporary, ns=(mtime, mtime))
        return settle(os.fspath(temporary), final, replace=replace)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _checked(path: Path, name: str) -> CheckedFile | str:
    try:
        checked = check_file(path, name)
    except (CorruptError, OSError) as error:
        return f"{name}: {error}"
    if not checked.self_contained:
        return f"{name}: its files lie beside it (file_clone or hard_link), which is not supported"
    return checked
