"""A layer's tar, read once from beginning to end in bounded memory: each file's content is looked at as it passes by."""

from __future__ import annotations

import gzip
import io
import mmap
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Protocol

import xxhash

from imagetiers.binaries.device_code import read_elf
from imagetiers.binaries.elf import MAGIC, Bytes, Elf, FormatError, read_loading
from imagetiers.binaries.torch_symbols import TorchSymbols, read_torch_symbols
from imagetiers.layers.credentials import LOOK_BACK, find_credentials
from imagetiers.layers.model import FileEntry, FileKind, FileLayer, LayerError, ReadOptions

__all__ = ["TAR_BUFFER", "Chunks", "is_compressed", "read_layer"]

TAR_BUFFER = 1 << 16
"""Bytes that tarfile reads at a time. It copies what is left of them at each read: a header of 512 bytes costs all of it."""

_MOST_ENTRIES = 4_000_000
_MOST_CONTENT = 256 << 20  # bytes that are kept of one layer, all files together
_IN_MEMORY = 64 << 20
_PIECE = 1 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MODE = 0o7777
_WIDE = 64  # bits
_TORCH = ("libtorch", "libc10")


class Chunks(io.RawIOBase):
    """Pieces of bytes as a file that can be read once. `before` is read first."""

    def __init__(self, pieces: Iterator[bytes], before: bytes = b"") -> None:
        self._pieces = pieces
        self._rest = memoryview(before)

    def readable(self) -> bool:
        """Say that it is a file to read from."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill as much of the buffer as there is at hand."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def read_layer(stream: IO[bytes] | io.RawIOBase, wanted: ReadOptions) -> FileLayer:
    """Read a layer, compressed or not. Raises LayerError when it is no tar, or ends early; OSError when the disk is full."""
    try:
        with tarfile.open(fileobj=_plain(stream), mode="r|", bufsize=TAR_BUFFER, errors="surrogateescape") as tar:
            return _read(tar, wanted)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise LayerError(f"a layer cannot be read: {error}") from error
    except Exception as error:
        if type(error).__module__.startswith("zstandard"):
            raise LayerError(f"a layer cannot be read: {error}") from error
        raise


def is_compressed(head: bytes) -> bool:
    """Say by its first four bytes whether a layer is compressed in a way that `read_layer` knows."""
    return head.startswith((_GZIP, _ZSTD))


def _plain(stream: IO[bytes] | io.RawIOBase) -> IO[bytes]:
    buffered = io.BufferedReader(stream, _PIECE)  # type: ignore[type-var]  # typeshed asks for more than it needs
    head = buffered.peek(4)[:4]
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=buffered)  # type: ignore[return-value]
    if head == _ZSTD:
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
    return buffered


def _read(tar: tarfile.TarFile, wanted: ReadOptions) -> FileLayer:
    entries: dict[str, FileEntry] = {}
    removed: list[str] = []
    opaque: list[str] = []
    links: list[tuple[str, str]] = []
    kept = 0
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # which would be kept to the end
        path = _path(member.name)
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            opaque.append(folder or "/")
        elif name.startswith(_WHITEOUT):
            removed.append(f"{folder}/{name.removeprefix(_WHITEOUT)}")
        elif member.islnk():
            origin = _path(member.linkname)
            if origin in entries:
                entries[path] = replace(entries[origin], path=path, hard_link=True)
            else:
                links.append((path, origin))
        elif path != "/":
            entry = _entry(tar, member, path, wanted)
            kept += len(entry.content or b"")
            entries[path] = entry if kept <= _MOST_CONTENT else replace(entry, content=None)
        if len(entries) + len(removed) > _MOST_ENTRIES:
            raise LayerError(f"a layer has more than {_MOST_ENTRIES:,} files")
    return FileLayer(tuple(entries.values()), tuple(removed), tuple(opaque), tuple(links))


def _path(name: str) -> str:
    """Return an absolute path without `.` and `..`: what would lie above the root lies in it."""
    return posixpath.normpath("/" + name.lstrip("/"))


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, wanted: ReadOptions) -> FileEntry:
    kind = FileKind.OTHER
    if member.isreg():
        kind = FileKind.FILE
    elif member.isdir():
        kind = FileKind.FOLDER
    elif member.issym():
        kind = FileKind.LINK
    target = "" if kind is FileKind.FILE else member.linkname
    entry = FileEntry(path, kind, member.mode & _MODE, member.uid, member.gid, member.size, target)
    file = tar.extractfile(member) if kind is FileKind.FILE and member.size else None
    if file is None:
        return replace(entry, content=b"") if kind is FileKind.FILE else entry
    if not wanted.sizes:
        return _content(entry, file, wanted)
    hashed = _Hashed(file)
    entry = _content(entry, hashed, wanted)
    return replace(entry, hash=hashed.digest())


class _Source(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = xxhash.xxh3_128()

    def read(self, size: int = -1, /) -> bytes:
        """Read as a file does."""
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> bytes:
        """Read what is left, and return the hash of all of it."""
        while self.read(_PIECE):
            pass
        return self._hash.digest()


def _content(entry: FileEntry, file: _Source, wanted: ReadOptions) -> FileEntry:
    """Look at what is wanted of a file's bytes."""
    keeps = wanted.keeps(entry.path, entry.size)
    if keeps or wanted.elf or wanted.credentials:
        head = file.read(min(entry.size, _PIECE))
        if head.startswith(MAGIC):
            if wanted.elf:
                return _read_elf(entry, head, file, wanted)
        elif keeps or wanted.credentials:
            return _read_text(entry, head, file, wanted, keeps=keeps)
    return entry


def _read_text(entry: FileEntry, head: bytes, file: _Source, wanted: ReadOptions, *, keeps: bool) -> FileEntry:
    kept = [head] if keeps else []
    kinds: dict[str, None] = {}
    texts = wanted.credentials and b"\0" not in head
    before, piece = b"", head
    while piece:
        if texts:
            kinds.update(dict.fromkeys(find_credentials(before + piece, entry.path)))
            before = piece[-LOOK_BACK:]
        if not keeps and not texts:
            break
        piece = file.read(_PIECE)
        if keeps and piece:
            kept.append(piece)
    return replace(entry, content=b"".join(kept) if keeps else None, credentials=tuple(kinds))


def _read_elf(entry: FileEntry, head: bytes, file: _Source, wanted: ReadOptions) -> FileEntry:
    """Read an ELF file; a large one from the disk, of which only the pages are in memory that are looked at."""
    if entry.size <= _IN_MEMORY:
        return _look_at(entry, head + file.read(), wanted)
    with tempfile.TemporaryFile() as copy:
        copy.write(head)
        while piece := file.read(_PIECE):
            copy.write(piece)
        copy.flush()
        with mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _look_at(entry, data, wanted)


def _torch_symbols(data: Bytes, elf: Elf) -> TorchSymbols | None:
    try:
        return read_torch_symbols(data) or None
    except FormatError:
        if any(name.startswith(_TORCH) for name in elf.needed):
            raise
        return None  # the loader does not read what is damaged, and PyTorch has no part in it


def _look_at(entry: FileEntry, data: Bytes, wanted: ReadOptions) -> FileEntry:
    try:
        elf = read_loading(data)
        wide = elf is not None and elf.bits == _WIDE
        code = read_elf(data) if wide and wanted.device_code else None
        torch = _torch_symbols(data, elf) if wide and elf is not None and wanted.loading else None
    except FormatError as error:
        return replace(entry, elf_error=str(error))
    return replace(entry, elf=elf, device_code=code or None, torch=torch)
