"""What a compile leaves that are not wheels alone: files, folders and links, kept and brought back exactly.

The list of them says of each path what it is; nothing is taken, and nothing brought back, that it does not say. Times are
whole seconds, so that what comes back has the very ones that were kept. Hard links become files of their own.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagetiers.documents import parse_object
from imagetiers.errors import BuildError, Problem
from imagetiers.inputs.manifest import ManifestLine
from imagetiers.report.amounts import size_text
from imagetiers.state.archives import (
    LATEST,
    ArchiveLimits,
    ArchiveReader,
    LinkFault,
    Member,
    MemberKind,
    is_name,
    link_fault,
)
from imagetiers.state.wheels_whole import (
    MAX_OUTPUTS,
    MAX_OUTPUTS_LIST_BYTES,
    OUTPUTS,
    OUTPUTS_LIST,
    describe,
    entries_below,
)

__all__ = ["commit", "listed", "pack", "unpack"]

MAX_OUTPUT_BYTES = 8 << 30
_LONGEST_PATH = 1000  # bytes
_SHOWN = 8
_RIGHTS = 0o777
_MODE_OF_ALL = 0o755
_NEEDED = {"file": 0o400, "folder": 0o700}  # what their owner must be able to do, to keep and to remove them
_TEXT = re.compile(r"(file) ([0-7]{1,3}) ([0-9a-f]{64})|(folder) ([0-7]{1,3})|(link) (.+)", re.DOTALL)
_IGNORE = ".dockerignore"
_NO_NAME = "has a name that is no UTF-8, or too long, or with control characters"


@dataclass(frozen=True, slots=True)
class Output:
    """What is at a path: a file with the hash of its content, a folder, or a link with its target."""

    kind: str
    mode: int = 0
    value: str = ""


# ---- from what a compile has left to what is kept ----


def commit(partial: Path, patterns: Iterable[str], task: str) -> tuple[str, ...]:
    """Leave in a compile's folder what the patterns mean and its list; return what else there was: `NAME (what it is)`.

    The list is written by whoever renames the folder, with what `listed` returns. Raises BuildError with all that cannot be
    kept; then nothing is removed.
    """
    folder = partial / OUTPUTS
    found = entries_below(folder, MAX_OUTPUTS)
    if found is None:
        what = f"left more than {MAX_OUTPUTS:,} files and folders"
        raise BuildError(Problem(task, what, "build elsewhere, and copy what is wanted to $OUTPUTS_DIR"))
    paths = sorted(found)
    chosen, problems = _chosen(paths, patterns, task)
    kept = {path: _output(folder, path) for path in chosen}
    problems += [Problem(f"{task}: {path}", *wrong) for path, wrong in _wrong(folder, kept)]
    BuildError.raise_if(problems)
    others = _outermost(path for path in paths if path not in chosen)
    told = tuple(f"{path} ({_kind(folder / path)})" for path in others[:_SHOWN])
    told += (f"and {len(others) - _SHOWN:,} more",) if len(others) > _SHOWN else ()
    for path in reversed(paths):  # what lies in a folder stands behind it
        place = folder / path
        if path not in chosen:
            place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
    times = {path: min(max(0, int((folder / path).lstat().st_mtime)), LATEST) for path in chosen}
    _settle(folder, kept, times)
    return told


def _settle(folder: Path, outputs: Mapping[str, Output], times: Mapping[str, int]) -> None:
    """Set modes of folders, and all times. The folder itself, which COPY may make a folder of the image, has them, too."""
    for path in sorted(times, reverse=True):  # folders after what lies in them
        if outputs[path].kind == "folder":
            (folder / path).chmod(outputs[path].mode)
        os.utime(folder / path, (times[path], times[path]), follow_symlinks=False)
    folder.chmod(_MODE_OF_ALL)
    newest = max(times.values())
    os.utime(folder, (newest, newest))


def listed(partial: Path) -> str:
    """Return the list of what lies in a compile's folder."""
    folder = partial / OUTPUTS
    found = entries_below(folder, MAX_OUTPUTS) or {}
    told = {path: describe(folder / path) for path in found}
    return json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False)


def _chosen(paths: list[str], patterns: Iterable[str], task: str) -> tuple[set[str], list[Problem]]:
    """Return what the patterns mean, with the folders that it lies in, and which of them mean nothing."""
    chosen: set[str] = set()
    problems: list[Problem] = []
    for pattern in patterns:
        meant = ManifestLine(0, pattern.removeprefix("./").rstrip("/")).among(paths)
        chosen.update(meant)
        if not meant:
            there = _outermost(paths)
            some = ", ".join(there[:_SHOWN]) + (f" and {len(there) - _SHOWN:,} more" if len(there) > _SHOWN else "")
            left = f"it left {some}" if there else "it left nothing there"
            what = f"nothing of what the step left in $OUTPUTS_DIR is meant by '{pattern}'; {left}"
            problems.append(Problem(task, what, "correct compile.outputs, or what compile.run copies there"))
    chosen |= {parent for path in chosen for parent in _parents(path)}
    return chosen, problems


def _wrong(folder: Path, kept: Mapping[str, Output]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield what cannot be kept, and the cure."""
    total = 0
    for path, output in sorted(kept.items()):
        if not is_name(path):
            yield _visible(path), (_NO_NAME, "give it another one")
        elif path == _IGNORE:
            yield path, ("would be read by BuildKit, which then leaves out what it names", "keep it in a folder")
        elif output.kind == "link":
            fault = _link_fault(path, kept)
            if fault is not None:
                yield path, (f"is a link to {output.value}, which {fault}", "a link must lead to what is kept with it")
        elif output.kind not in _NEEDED:
            yield path, ("is neither a file, a folder nor a link", "keep it elsewhere")
        elif output.mode & ~_RIGHTS:
            yield path, ("has the set-uid, set-gid or sticky bit", "set it in the Dockerfile, where its owner is set")
        elif output.mode & _NEEDED[output.kind] != _NEEDED[output.kind]:
            yield (
                path,
                (f"has the mode {output.mode:o}, so not even its owner can use it", "set the mode in the Dockerfile"),
            )
        total += (folder / path).lstat().st_size if output.kind == "file" else 0
    if total > MAX_OUTPUT_BYTES:
        what = f"is {size_text(total)} in all, and {size_text(MAX_OUTPUT_BYTES)} is the most"
        yield OUTPUTS, (what, "keep less")


def _output(folder: Path, path: str) -> Output:
    """Look at what is there, without its content."""
    place = folder / path
    mode = place.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Output("link", value=os.readlink(place))  # noqa: PTH115  pathlib would tidy it
    if stat.S_ISDIR(mode):
        # Folders may have the set-gid bit of the folder that all of this lies in.
        return Output("folder", stat.S_IMODE(mode) & _RIGHTS)
    return Output("file" if stat.S_ISREG(mode) else "other", stat.S_IMODE(mode))


def _kind(place: Path) -> str:
    if place.is_symlink():
        return "a link"
    return "a folder" if place.is_dir() else "a file" if place.is_file() else "not a file"


def _outermost(paths: Iterable[str]) -> list[str]:
    """Leave out what lies in a folder that is named, too. The paths are sorted."""
    found: list[str] = []
    seen: set[str] = set()
    for path in paths:
        if not seen.intersection(_parents(path)):
            found.append(path)
        seen.add(path)
    return found


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _visible(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()[:_LONGEST_PATH]


def _link_fault(path: str, outputs: Mapping[str, Output]) -> LinkFault | None:
    kinds = {path: output.kind for path, output in outputs.items()}
    return link_fault(path, kinds, {path: output.value for path, output in outputs.items()})


# ---- as an archive ----


def pack(folder: Path, tar: tarfile.TarFile) -> None:
    """Put what is kept into an archive, its list first. Raises OSError."""
    data = (folder / OUTPUTS_LIST).read_bytes()
    told = tarfile.TarInfo(OUTPUTS_LIST)
    told.size = len(data)
    tar.addfile(told, io.BytesIO(data))
    for path, output in sorted(_read_list(data).items()):
        place = folder / OUTPUTS / path
        status = place.lstat()
        member = tarfile.TarInfo(path)
        member.mode, member.mtime = output.mode, int(status.st_mtime)
        if output.kind == "file":
            member.size = status.st_size
            with place.open("rb") as content:
                tar.addfile(member, content)
            continue
        member.type = tarfile.DIRTYPE if output.kind == "folder" else tarfile.SYMTYPE
        member.linkname = output.value
        tar.addfile(member)


def unpack(archive: Path, folder: Path, patterns: Iterable[str]) -> None:
    """Unpack an archive into a folder that is empty, whatever its maker meant. Raises CorruptError, OSError.

    What its list says is held against the rules before anything is written, and each member against the list.
    """
    with ArchiveReader(archive, ArchiveLimits(MAX_OUTPUTS, MAX_OUTPUT_BYTES)) as reader:
        data = reader.read_first(OUTPUTS_LIST, MAX_OUTPUTS_LIST_BYTES)
        wanted = _read_list(data)
        wrong = _wrong_list(wanted, patterns)
        if wrong is not None:
            raise reader.refused(f"holds what no compile of this key leaves: {wrong}")
        place = folder / OUTPUTS
        place.mkdir()
        found = reader.unpack(place, lambda member: None if _fits(member, wanted) else "is not what the list says")
        if found.keys() != wanted.keys():
            raise reader.refused(f"holds {len(found):,} of the {len(wanted):,} that its list has")
        changed = [
            path
            for path, member in found.items()
            if member.kind is MemberKind.FILE and member.sha256 != wanted[path].value
        ]
        if changed:
            raise reader.refused(f"{changed[0][:80]!r} is not what its list says")
    for path, output in wanted.items():
        if output.kind == MemberKind.FILE:
            (place / path).chmod(output.mode)
    _settle(place, wanted, {path: member.mtime for path, member in found.items()})
    (folder / OUTPUTS_LIST).write_bytes(data)


def _fits(member: Member, wanted: Mapping[str, Output]) -> bool:
    """Say whether the list has a member; what a file holds is seen when it was read."""
    output = wanted.get(member.path)
    return (
        output is not None
        and output.kind == member.kind
        and (output.kind != MemberKind.LINK or output.value == member.target)
    )


def _read_list(data: bytes) -> Mapping[str, Output]:
    """Return what a list says, nothing where it is none."""
    given = parse_object(data) or {}
    outputs: dict[str, Output] = {}
    for path, text in given.items():
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            return {}
        kind, *rest = (group for group in match.groups() if group is not None)
        outputs[path] = (
            Output(kind, value=rest[0]) if kind == "link" else Output(kind, int(rest[0], 8), "".join(rest[1:]))
        )
    return outputs


def _wrong_list(wanted: Mapping[str, Output], patterns: Iterable[str]) -> str | None:
    if not wanted or len(wanted) > MAX_OUTPUTS:
        return f"{len(wanted):,} files"
    for path, output in wanted.items():
        above = path.rpartition("/")[0]
        if not is_name(path) or path == _IGNORE or (above and (above not in wanted or wanted[above].kind != "folder")):
            return repr(_visible(path)[:80])
        if output.kind != "link" and output.mode & _NEEDED[output.kind] != _NEEDED[output.kind]:
            return f"{path[:80]!r} with the mode {output.mode:o}"
        if output.kind == "link" and _link_fault(path, wanted) is not None:
            return f"the link {path[:80]!r}"
    chosen, unmet = _chosen(sorted(wanted), patterns, "")
    foreign = min(wanted.keys() - chosen, default=None)
    return f"{foreign[:80]!r}" if foreign is not None else unmet[0].what if unmet else None
