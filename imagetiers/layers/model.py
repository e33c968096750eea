"""The files of a layer as values: what a tar says of each, and what was read of its content while it passed by."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagetiers.binaries.device_code import DeviceCode
    from imagetiers.binaries.elf import Elf
    from imagetiers.binaries.torch_symbols import TorchSymbols

__all__ = ["MOST_KEPT", "FileEntry", "FileKind", "FileLayer", "LayerError", "ReadOptions", "is_package_list"]

_DPKG = "/var/lib/dpkg/info/"

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
    `loading`: what ELF files need; `device_code`: what they hold for GPUs; `credentials`: whether texts hold any;
    `sizes`: a hash of each file, and the lists of files that packages of Python and of dpkg have.
    """

    contents: frozenset[str] = frozenset()
    loading: bool = False
    device_code: bool = False
    credentials: bool = False
    folders: frozenset[str] = frozenset()
    sizes: bool = False

    def __or__(self, other: ReadOptions) -> ReadOptions:
        """Return both."""
        return ReadOptions(
            self.contents | other.contents,
            self.loading or other.loading,
            self.device_code or other.device_code,
            self.credentials or other.credentials,
            self.folders | other.folders,
            self.sizes or other.sizes,
        )

    def covers(self, other: ReadOptions) -> bool:
        """Say whether the other asks for nothing more."""
        return self | other == self

    def keeps(self, path: str, size: int) -> bool:
        """Say whether a file's bytes are kept."""
        folder, _, name = path.rpartition("/")
        wanted = name in self.contents or folder in self.folders or (self.sizes and is_package_list(path))
        return size <= MOST_KEPT and wanted

    @property
    def elf(self) -> bool:
        """Whether ELF files are read at all."""
        return self.loading or self.device_code


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A name in a layer. `mode` are the twelve bits of permissions; `target` is where a symbolic link leads, as it is written.

    `content` is None where it was not wanted or is too large; `hash` is that of all of it, where that was. Of several names
    of one file (`hard_link`) the first one has its bytes. `elf_error` says why an ELF file could not be read;
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
    torch: TorchSymbols | None = None
    elf_error: str = ""
    credentials: tuple[str, ...] = ()
    hash: bytes = b""
    hard_link: bool = False

    @property
    def own_size(self) -> int:
        """The bytes that this name adds to its layer."""
        return self.size if self.kind is FileKind.FILE and not self.hard_link else 0


@dataclass(frozen=True, slots=True)
class FileLayer:
    """A layer: its entries in the order of the tar, what it removes from the layers below, and whose content it replaces.

    `links` are hard links, by path, to files of layers below.
    """

    entries: tuple[FileEntry, ...] = ()
    removed: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = field(default=())

    @property
    def size(self) -> int:
        """Its bytes, unpacked."""
        return sum(entry.own_size for entry in self.entries)


def is_package_list(path: str) -> bool:
    """Say whether this is where a package manager keeps which files a package has: pip's RECORD or dpkg's list."""
    return path.endswith(".dist-info/RECORD") or (path.startswith(_DPKG) and path.endswith(".list"))
