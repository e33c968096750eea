"""Layers, archives and ELF files made in memory, for tests of what is read of them."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imagetiers.layers.archive import ImageFiles, read_saved
from imagetiers.layers.model import ReadOptions

EVERYTHING = ReadOptions(
    contents=frozenset({"passwd", "group", "ld.so.cache", "status", "installed", "motd"}),
    loading=True,
    device_code=True,
    credentials=True,
)


@dataclass(frozen=True)
class Member:
    """A member of a tar: a file's bytes, or a link's target, with mode and owner. `kind` is the tar's."""

    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    kind: bytes = tarfile.REGTYPE
    target: str = ""


FOLDER = Member(mode=0o755, kind=tarfile.DIRTYPE)


def symlink(target: str) -> Member:
    return Member(mode=0o777, kind=tarfile.SYMTYPE, target=target)


def hardlink(target: str) -> Member:
    return Member(kind=tarfile.LNKTYPE, target=target)


def tar(members: Mapping[str, Member | bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, given in members.items():
            member = Member(given) if isinstance(given, bytes) else given
            info = tarfile.TarInfo(name.lstrip("/"))
            info.type, info.mode, info.uid, info.gid = member.kind, member.mode, member.uid, member.gid
            info.linkname, info.size = member.target.lstrip("/") if member.kind == tarfile.LNKTYPE else member.target, 0
            if member.kind == tarfile.REGTYPE:
                info.size = len(member.content)
            file.addfile(info, io.BytesIO(member.content))
    return out.getvalue()


def saved(layers: Iterable[bytes], config: Mapping[str, object] | None = None) -> bytes:
    """Return what `docker save` would write, the manifest last as it does."""
    return saved_together({"": layers}, config)


def saved_together(images: Mapping[str, Iterable[bytes]], config: Mapping[str, object] | None = None) -> bytes:
    """Return what it would write of several images, by their tags: what they share once."""
    members: dict[str, bytes] = {}
    listed = []
    for tag, layers in images.items():
        own = {f"blobs/sha256/{hashlib.sha256(layer).hexdigest()}": layer for layer in layers}
        listed.append({"Config": "blobs/sha256/c", "RepoTags": [tag] if tag else None, "Layers": list(own)})
        members |= own
    document = json.dumps({"config": config or {}, "history": []}).encode()
    return tar({**members, "blobs/sha256/c": document, "manifest.json": json.dumps(listed).encode()})


def image(
    *layers: Mapping[str, Member | bytes], config: Mapping[str, object] | None = None, wanted: ReadOptions = EVERYTHING
) -> ImageFiles:
    data = saved([tar(layer) for layer in layers], config)
    return read_saved((data[at : at + 1000] for at in range(0, len(data), 1000)), wanted)


def elf(
    *needed: str, soname: str = "", rpath: str = "", runpath: str = "", interpreter: str = "", machine: int = 62
) -> bytes:
    """Return a 64-bit shared library, or a program, of headers alone."""
    texts = b"\0"
    tags: list[tuple[int, int]] = []
    for tag, text in [*((1, name) for name in needed), (14, soname), (15, rpath), (29, runpath)]:
        if text:
            tags.append((tag, len(texts)))
            texts += text.encode() + b"\0"
    interp_at = 64 + 3 * 56
    interp = interpreter.encode() + b"\0"
    strings_at = interp_at + len(interp)
    dynamic_at = strings_at + len(texts)
    tags += [(5, strings_at), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    size = dynamic_at + len(dynamic)
    segments = [(1, 0, size), (2, dynamic_at, len(dynamic))]
    segments.append((3, interp_at, len(interp)) if interpreter else (0, 0, 0))
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, machine, 1, 0, 64, 0, 0, 64, 56, len(segments), 64, 0, 0
    )
    table = b"".join(struct.pack("<IIQQQQQQ", kind, 4, at, at, at, long, long, 1) for kind, at, long in segments)
    return header + table + interp + texts + dynamic


def loader_cache(paths: Mapping[str, str]) -> bytes:
    """Return an /etc/ld.so.cache."""
    head = struct.pack("<20sIIB3xI12x", b"glibc-ld.so.cache1.1", len(paths), 0, 0, 0)
    texts, rows = b"", b""
    base = len(head) + 24 * len(paths)
    for name, path in paths.items():
        rows += struct.pack("<iIIIQ", 0x0303, base + len(texts), base + len(texts) + len(name) + 1, 0, 0)
        texts += name.encode() + b"\0" + path.encode() + b"\0"
    return head + rows + texts
