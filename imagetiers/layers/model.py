"""The files of a layer as values: what a tar says of each, and what was read of its content while it passed by."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagetiers.binaries.device_code import DeviceCode
    from imagetiers.binaries.elf import Elf

__all__ = ["MOST_KEPT", "FileEntry", "FileKind", "FileLayer", "LayerError", "ReadOptions"]

MOST_KEPT = 16 << 20
"""Bytes of a file's content that are kept, at most."""


class LayerError(Exception):
    """A layer or an archive of an image cannot be read. What it would have held is unknown."""


class FileKind(Enum):
    """What a name stands for. OTHER is a device, a pipe or a socket."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What is to be read of files beside what the tar says of them, since their bytes pass by once.

    `contents` are names of files (without folders) whose bytes are kept, `folders` those of which all files' are.
    `loading`: what ELF files need; `device_code`: what they hold for GPUs; `credentials`: whether texts hold any.
    """

    contents: frozenset[str] = frozenset()
    loading: bool = False
    device_code: bool = False
    credentials: bool = False
    folders: frozenset[str] = frozenset()

    def keeps(self, path: str, size: int) -> bool:
        """Say whether a file's bytes are kept."""
        folder, _, name = path.rpartition("/")
        return size <= MOST_KEPT and (name in self.contents or folder in self.folders)

    @property
    def elf(self) -> bool:
        """Whether ELF files are read at all."""
        return self.loading or self.device_code


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A name in a layer. `mode` are the twelve bits of permissions; `target` is where a symbolic link leads, as it is written.

    `content` is None where it was not wanted or is too large. `elf_error` says why an ELF file could not be read;
    `credentials` are the kinds of credentials in the text, never they themselves.
    """

    path: str
    kind: FileKind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    target: str = ""
    content: bytes | None = None
    elf: Elf | None = None
    device_code: DeviceCode | None = None
    elf_error: str = ""
    credentials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileLayer:
    """A layer: its entries in the order of the tar, what it removes from the layers below, and whose content it replaces.

    `links` are hard links, by path, to files of layers below.
    """

    entries: tuple[FileEntry, ...] = ()
    removed: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = field(default=())
