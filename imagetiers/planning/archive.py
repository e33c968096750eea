"""What `docker save` writes, read as it comes: every file of every layer, once, without keeping any. Pure.

What comes out of an image is untrusted: the number of its files, and of the bytes that are kept, are limited.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, cast

import xxhash
import zstandard

__all__ = ["ArchiveError", "ImageContents", "Layer", "LayerFile", "read_archive"]

_MOST_FILES = 5_000_000
_MOST_DOCUMENT = 8 << 20  # bytes of a configuration or manifest
_MOST_LIST = 8 << 20  # bytes of a package's list of files
_MOST_LISTS = 256 << 20
_CHUNK = 1 << 20
_ZSTD = b"\x28\xb5\x2f\xfd"
_DPKG = "var/lib/dpkg/info/"


class ArchiveError(Exception):
    """The archive is none of an image, or larger than any."""


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A file of a layer: its path from the root without a slash before it, its bytes, and their hash.

    A link has no bytes. `removed` is for a path that the layer takes away; with `below`, only what earlier layers have in it.
    """

    path: str
    size: int = 0
    hash: bytes = b""
    is_folder: bool = False
    removed: bool = False
    below: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its files, and the instruction that made it, as the image's history has it ('' where it says nothing)."""

    files: tuple[LayerFile, ...]
    made_by: str = ""

    @property
    def size(self) -> int:
        """Its bytes, unpacked."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class ImageContents:
    """The layers of an image, the first one first; `history` has all instructions, and the layer that each has made.

    `lists` are the texts by which package managers say which files are whose, by path.
    """

    layers: tuple[Layer, ...]
    history: tuple[tuple[str, int | None], ...]
    lists: dict[str, str] = field(default_factory=dict)


def read_archive(pieces: Iterator[bytes]) -> ImageContents:
    """Read an image's archive, whatever order it has. Raises ArchiveError, and what `pieces` raises."""
    documents: dict[str, Any] = {}
    layers: dict[str, tuple[LayerFile, ...]] = {}
    reader = _Reader()
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Pieces(pieces)), mode="r|", bufsize=_CHUNK) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    continue
                head = file.read(4)
                if head[:1] in {b"{", b"["}:
                    documents[member.name] = json.loads(head + file.read(_MOST_DOCUMENT))
                elif member.name.startswith("blobs/") or member.name.endswith("/layer.tar"):
                    layers[member.name] = reader.read(head, file)
        return _put_together(documents, layers, reader.lists)
    except (tarfile.TarError, ValueError, KeyError, TypeError, IndexError, EOFError, zstandard.ZstdError) as error:
        raise ArchiveError(f"what the engine has saved is no image's archive: {error}") from error


def _put_together(
    documents: dict[str, Any], layers: dict[str, tuple[LayerFile, ...]], lists: dict[str, str]
) -> ImageContents:
    manifest = documents["manifest.json"][0]
    history: list[tuple[str, int | None]] = []
    made_by: list[str] = []
    for entry in documents[manifest["Config"]].get("history") or ():
        text = str(entry.get("created_by") or "")
        history.append((text, None if entry.get("empty_layer") else len(made_by)))
        if not entry.get("empty_layer"):
            made_by.append(text)
    names = manifest["Layers"]
    made_by += [""] * (len(names) - len(made_by))
    found = tuple(Layer(layers[name], text) for name, text in zip(names, made_by, strict=False))
    return ImageContents(found, tuple(history), lists)


class _Reader:
    """Reads layers, and counts over all of them."""

    def __init__(self) -> None:
        self.lists: dict[str, str] = {}
        self._files = self._listed = 0

    def read(self, head: bytes, file: IO[bytes]) -> tuple[LayerFile, ...]:
        """Read one layer, of which these are the first bytes."""
        source: Any = _Pieces(_chunks(head, file))
        if head == _ZSTD:
            source = zstandard.ZstdDecompressor().stream_reader(source)
        mode = "r|" if head == _ZSTD else "r|*"
        with tarfile.open(fileobj=source, mode=mode, bufsize=_CHUNK) as layer:  # type: ignore[call-overload]  # mode is one of two
            return tuple(self._contents(layer))

    def _contents(self, layer: tarfile.TarFile) -> Iterator[LayerFile]:
        for member in layer:
            self._files += 1
            if self._files > _MOST_FILES:
                raise ArchiveError(f"the image has more than {_MOST_FILES:,} files")
            path = member.name.removeprefix("./").strip("/")
            folder, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                yield LayerFile(folder, removed=True, below=True)
            elif name.startswith(".wh."):
                yield LayerFile(f"{folder}/{name[4:]}".lstrip("/"), removed=True)
            else:
                file = layer.extractfile(member) if member.isreg() else None
                yield self._content(path, member, file)

    def _content(self, path: str, member: tarfile.TarInfo, file: IO[bytes] | None) -> LayerFile:
        if file is None:
            return LayerFile(path, is_folder=member.isdir())
        wanted = _is_list(path) and member.size <= _MOST_LIST and self._listed + member.size <= _MOST_LISTS
        kept = bytearray()
        digest = xxhash.xxh3_128()
        while piece := file.read(_CHUNK):
            digest.update(piece)
            if wanted:
                kept += piece
        if wanted:
            self._listed += len(kept)
            self.lists[path] = kept.decode(errors="replace")
        return LayerFile(path, member.size, digest.digest())


def _is_list(path: str) -> bool:
    return path.endswith(".dist-info/RECORD") or (path.startswith(_DPKG) and path.endswith(".list"))


def _chunks(head: bytes, file: IO[bytes]) -> Iterator[bytes]:
    yield head
    while piece := file.read(_CHUNK):
        yield piece


class _Pieces:
    """A file to read from, of bytes that come in pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int) -> bytes:
        """Return so many bytes; fewer at the end alone."""
        parts = [self._left[:size]]
        missing = size - len(parts[0])
        self._left = self._left[size:]
        while missing > 0:
            piece = next(self._pieces, b"")
            if not piece:
                break
            parts.append(piece[:missing])
            self._left = piece[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)
