"""Archives that may be anybody's, unpacked by one set of rules: nothing leaves the folder, and nothing is without a bound.

A member is a file, a folder or a link. It has a name that stays below the folder, once, with folders alone above it. Devices,
pipes and sparse files are refused; a hard link is a file of its own, of one that came before. What a link leads to is known
when all members are there: `link_fault` tells.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from imagetiers.errors import CorruptError, Problem

__all__ = ["LATEST", "ArchiveLimits", "ArchiveReader", "LinkFault", "Member", "MemberKind", "is_name", "link_fault"]

LATEST = (1 << 33) - 1
"""The latest time that a member has, in Unix seconds: what ustar can say."""

_LONGEST_PATH = 1000  # bytes
_LONGEST_NAME = 255  # bytes of a part of it, as file systems have it
_LONGEST_HEADER = 1 << 20  # bytes of a member's extended header, which tarfile reads as a whole
_EXTENDED = frozenset({b"x", b"g", b"X", tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
_FIRST_VISIBLE = 32
_MOST_LINKS = 40  # on the way of one, as the kernel has it
_PIECE = 1 << 20
_SHOWN = 80
_RIGHTS = 0o777


class MemberKind(StrEnum):
    """What there can be at a path."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


class LinkFault(StrEnum):
    """How a link leads to nothing that is kept with it."""

    LEAVES = "leads out of the folder"
    ABSOLUTE = "is no relative path"
    DANGLES = "is not kept"
    CIRCLES = "leads in a circle"


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How many members an archive may have, and how many bytes these may be once they are unpacked."""

    members: int
    size: int


@dataclass(frozen=True, slots=True)
class Member:
    """What an archive says of a path: rights, time (Unix seconds), bytes, and of a link its target.

    `sha256` is that of a file, in hex digits, once it is unpacked.
    """

    path: str
    kind: MemberKind
    mode: int
    mtime: int
    size: int = 0
    target: str = ""
    sha256: str = ""


class ArchiveReader:
    """Reads an archive of the file `archive` once, from its beginning. Raises CorruptError for one that breaks the rules.

    Raises OSError where the archive cannot be read or what it holds cannot be written. What was unpacked before an error is
    still there: unpack to a folder of which nobody knows yet.
    """

    def __init__(self, archive: Path, limits: ArchiveLimits) -> None:
        self.name = archive.name
        self._path = archive
        self._limits = limits
        self._size = self._count = 0

    def __enter__(self) -> Self:
        try:
            self._tar = tarfile.open(self._path, "r:", tarinfo=_Header)
        except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
            raise self._no_archive(error) from error
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._tar.close()
        # What tarfile makes of a malformed archive has many names.
        if isinstance(error, tarfile.TarError | ValueError | OverflowError | EOFError | RecursionError):
            raise self._no_archive(error) from error

    def read_first(self, name: str, longest: int) -> bytes:
        """Return the content of the first member, which is a file of that name."""
        first = self._tar.next()
        if first is None or first.name != name or not first.isreg() or not 0 < first.size <= longest:
            raise self.refused(f"does not begin with {name}")
        source = self._tar.extractfile(first)
        assert source is not None  # noqa: S101  isreg
        return source.read()

    def unpack(self, folder: Path, wrong: Callable[[Member], str | None] = lambda _: None) -> Mapping[str, Member]:
        """Unpack all that is left below a folder that is empty; return it by its path, with the folders that it lies in.

        `wrong` says of a member, before anything of it is written, why it may not be there. Rights and times are for the caller
        to set, who knows which are wanted.
        """
        found: dict[str, Member] = {}
        while (info := self._tar.next()) is not None:
            member = self._member(info, found)
            if member is None:
                continue
            reason = wrong(member)
            if reason is not None:
                raise self.refused(f"{_shown(member.path)} {reason}")
            for above in _above(member.path):
                if above not in found:
                    found[above] = Member(above, MemberKind.FOLDER, 0o755, member.mtime)
                    (folder / above).mkdir(mode=0o700)
            found[member.path] = self._write(info, member, folder, again=member.path in found)
        self._check_end()
        return found

    def refused(self, what: str, hint: str = "") -> CorruptError:
        """Return the error that the archive is none of the wanted ones."""
        return CorruptError(Problem(self.name, what, hint))

    def _no_archive(self, error: BaseException) -> CorruptError:
        return self.refused(f"is no archive of files: {error}")

    def _check_end(self) -> None:
        """Raise CorruptError where the archive ends without its mark: tarfile takes the half of one for all of it."""
        with self._path.open("rb") as file:
            file.seek(self._tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise self.refused("is no archive of files: it is cut off, or damaged")

    def _member(self, info: tarfile.TarInfo, found: Mapping[str, Member]) -> Member | None:
        """Hold a member against the rules; None of the folder itself."""
        path = str(PurePosixPath(info.name))
        if path == "." and info.isdir():
            return None
        self._count += 1
        if self._count > self._limits.members:
            raise self.refused(f"holds more than {self._limits.members:,} files and folders")
        if not is_name(path):
            raise self.refused(f"{_shown(info.name)} leaves the folder, or is no name")
        member = self._kind_of(info, path, found)
        self._size += member.size
        if info.size < 0 or self._size > self._limits.size:
            raise self.refused(f"holds more than {self._limits.size:,} bytes")
        if any(found[above].kind is not MemberKind.FOLDER for above in _above(path) if above in found):
            raise self.refused(f"{_shown(path)} lies behind a link or a file")
        if path in found and not found[path].kind is member.kind is MemberKind.FOLDER:
            raise self.refused(f"{_shown(path)} is there twice")
        return member

    def _kind_of(self, info: tarfile.TarInfo, path: str, found: Mapping[str, Member]) -> Member:
        member = Member(path, MemberKind.FILE, info.mode & _RIGHTS, int(min(max(0, info.mtime), LATEST)))
        if info.isdir():
            return replace(member, kind=MemberKind.FOLDER)
        if info.issym():
            return replace(member, kind=MemberKind.LINK, target=info.linkname)
        if info.islnk():
            same = found.get(str(PurePosixPath(info.linkname)))
            if same is not None and same.kind is not MemberKind.FOLDER:
                return replace(same, path=path)
            raise self.refused(f"{_shown(path)} is a hard link to nothing that came before it")
        if info.isreg() and not info.issparse():
            return replace(member, size=info.size)
        hint = "COPY what is wanted into a last stage FROM scratch, or `type: tar`, which holds it all"
        raise self.refused(f"{_shown(path)} is neither a file nor a folder or link", hint)

    def _write(self, info: tarfile.TarInfo, member: Member, folder: Path, *, again: bool) -> Member:
        place = folder / member.path
        if member.kind is MemberKind.LINK:
            place.symlink_to(member.target)
        elif member.kind is MemberKind.FOLDER:
            place.mkdir(mode=0o700, exist_ok=again)
        else:
            with self._content(info, folder) as source, place.open("xb") as target:
                digest = hashlib.sha256()
                while piece := source.read(_PIECE):
                    digest.update(piece)
                    target.write(piece)
            return replace(member, sha256=digest.hexdigest())
        return member

    def _content(self, info: tarfile.TarInfo, folder: Path) -> IO[bytes]:
        if info.islnk():
            return (folder / PurePosixPath(info.linkname)).open("rb")
        source = self._tar.extractfile(info)
        assert source is not None  # noqa: S101  a file
        return source


class _Header(tarfile.TarInfo):
    """A member's header. An extended one, which is read into the memory, has a bound."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:  # the place that tarfile has for subclasses
        if self.type in _EXTENDED and not 0 <= self.size <= _LONGEST_HEADER:
            raise tarfile.ReadError("a header that is too long")
        done: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return done


def is_name(path: str) -> bool:
    """Say whether a path is one that stays below its folder, and that every archive, list and file system takes."""
    try:
        data = path.encode()
    except UnicodeEncodeError:
        return False
    parts = path.split("/")
    return (
        0 < len(data) <= _LONGEST_PATH
        and all(ord(char) >= _FIRST_VISIBLE for char in path)
        and not {"", ".", ".."}.intersection(parts)
        and all(len(part.encode()) <= _LONGEST_NAME for part in parts)
    )


def link_fault(path: str, kinds: Mapping[str, str], targets: Mapping[str, str]) -> LinkFault | None:
    """Say what is wrong with where a link leads; None for one that leads to what is kept with it.

    `kinds` says what there is at each path, and `targets` where the links lead. What is not kept is taken for a folder: so a
    link that would lead out if it were there leads out.
    """
    done, todo = path.split("/")[:-1], [path.rpartition("/")[2]]
    links, dangles = 0, False
    while todo:
        part = todo.pop(0)
        if part in {"", "."}:
            continue
        if part == "..":
            if not done:
                return LinkFault.LEAVES
            done.pop()
            continue
        here = "/".join((*done, part))
        kind = kinds.get(here)
        if kind != MemberKind.LINK:
            dangles = dangles or kind is None or (kind == MemberKind.FILE and bool(todo))
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            return LinkFault.CIRCLES
        if targets[here].startswith("/"):
            return LinkFault.ABSOLUTE
        todo = [*targets[here].split("/"), *todo]
    return LinkFault.DANGLES if dangles else None


def _above(path: str) -> Iterator[str]:
    """Yield the folders that a path lies in, the outermost first."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _shown(path: str) -> str:
    return repr(path.encode("utf-8", "backslashreplace").decode()[:_SHOWN])
