"""One reading of the tiers' files: what is hashed here is, byte for byte, what is sent to the builder.

A tier's manifest (`.image-manifest`) lists its inputs, one path or glob a line: `dir/` or `dir` means everything below,
`**` any depth, `!` takes away again, `#` begins a comment, and `//path` is taken from the repository's root.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imagetiers.config.layout import DOCKERFILE, MANIFEST, VERIFY_SCRIPT, Layout
from imagetiers.dockerfile.context import Tree
from imagetiers.errors import PipelineError, Problem
from imagetiers.inputs.manifest import ManifestLine, read_manifest
from imagetiers.repository_file import MAX_FILE_BYTES, kind_of_file, os_fault, read_file, read_input
from imagetiers.suggestions import nearest

__all__ = ["InputFile", "Snapshot", "TierFiles", "archive", "context_tar", "take_snapshot"]

MAX_TIER_BYTES = 256 << 20
MAX_FILES = 50_000
_MOST_STEPS = 4096  # on the way that a link leads

# Left behind by tools, never an input: not even a glob finds them.
LITTER = frozenset({"__pycache__", ".git", ".DS_Store", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
_OWN = frozenset({MANIFEST, DOCKERFILE, VERIFY_SCRIPT})

# tar, like every layer format, keeps times; all ours are the first moment that zip (and so wheels) can express.
EPOCH = 315_532_800  # 1980-01-01T00:00:00Z, seconds


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input of a tier: its path in the build context, its bytes (or the link's target), and the x-bit."""

    path: str
    content: bytes
    executable: bool = False
    link: bool = False

    @property
    def sha256(self) -> str:
        """The hex digest of the content."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def mode(self) -> str:
        """How the key names the kind of file: `644`, `755` or `link`."""
        return "link" if self.link else "755" if self.executable else "644"


@dataclass(frozen=True, slots=True)
class TierFiles:
    """Everything read of one tier. `unlisted` are paths in its folder that the manifest neither lists nor excludes."""

    tier: str
    dockerfile: bytes
    verify: bytes | None
    files: tuple[InputFile, ...]
    lines: tuple[ManifestLine, ...] = ()
    unlisted: tuple[str, ...] = ()

    def tree(self, *, with_unlisted: bool = False) -> Tree:
        """Return the listed files as a build context to look paths up in."""
        listed = {file.path: file.content.decode() if file.link else None for file in self.files}
        return Tree({**dict.fromkeys(self.unlisted if with_unlisted else ()), **listed})


Snapshot = Mapping[str, TierFiles]


def take_snapshot(layout: Layout, tiers: Iterable[str]) -> Snapshot:
    """Read the folders of `tiers`. Raises PipelineError with every problem of all of them."""
    problems: list[Problem] = []
    snapshot = {name: _read_tier(layout, name, problems) for name in tiers}
    PipelineError.raise_if(problems)
    return {name: files for name, files in snapshot.items() if files is not None}


def _read_tier(layout: Layout, name: str, problems: list[Problem]) -> TierFiles | None:
    folder = layout.tier(name)
    shown = folder.relative_to(layout.root).as_posix()
    fault = _folder_fault(layout, folder, shown)
    if fault is not None:
        problems.append(Problem(f"tiers.{name}", *fault))
        return None
    dockerfile = _read(folder / DOCKERFILE, f"{shown}/{DOCKERFILE}", "write the image's Dockerfile there", problems)
    hint = "list the files that the Dockerfile copies; an empty file is fine for none"
    manifest = _read(folder / MANIFEST, f"{shown}/{MANIFEST}", hint, problems)
    verify = _read_script(folder / VERIFY_SCRIPT, f"{shown}/{VERIFY_SCRIPT}", problems)
    if dockerfile is None or manifest is None:
        return None
    lines = tuple(read_manifest(manifest, f"{shown}/{MANIFEST}", problems))
    own = [path for path in _walk(folder, shown, problems) if path not in _OWN]
    tops = {line.pattern.split("/")[0] for line in lines if line.from_root}
    shared = list(_walk(layout.root, "", problems, below=tops))
    chosen: dict[str, Path] = {}
    by_line: dict[str, ManifestLine] = {}
    excluded: set[str] = set()
    for line in lines:
        base, paths = (layout.root, shared) if line.from_root else (folder, own)
        found = [path for path in paths if line.matches(path)]
        if line.exclude:
            excluded.update(found)
            for path in found:
                chosen.pop(path, None)
        else:
            if not found:
                where = f"{shown}/{MANIFEST}:{line.number}"
                own_hint = "remove the line: it is never a file of the image" if line.pattern in _OWN else ""
                hint = own_hint or _nearest(line.pattern, paths)
                problems.append(Problem(where, f"nothing matches '{line.pattern}'", hint))
            taken = [path for path in found if chosen.get(path, base / path) != base / path]
            if taken:
                problems.append(_two_files(f"{shown}/{MANIFEST}", taken, by_line[taken[0]], line))
            excluded.difference_update(found)
            chosen.update((path, base / path) for path in found)
            by_line.update(dict.fromkeys(found, line))
    files = _read_files(chosen, shown, problems)
    unlisted = tuple(path for path in own if path not in chosen and path not in excluded)
    return TierFiles(name, dockerfile, verify, files, lines, unlisted)


def _two_files(manifest: str, paths: list[str], earlier: ManifestLine, line: ManifestLine) -> Problem:
    """Say that two lines take two files, one of the tier's folder and one of the repository's, for one path in the context."""
    path, more = paths[0], f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    what = f"'{_shown(line)}' takes another file as {path}{more} than line {earlier.number} ('{_shown(earlier)}')"
    hint = f"take one of them away with '!' before, or let {path} lie elsewhere"
    return Problem(f"{manifest}:{line.number}", what, hint)


def _shown(line: ManifestLine) -> str:
    return f"//{line.pattern}" if line.from_root else line.pattern


def _folder_fault(layout: Layout, folder: Path, shown: str) -> tuple[str, str] | None:
    """Say why a tier's folder cannot be read, and the cure. It may be a link to another folder of the repository."""
    try:
        os.listdir(folder)
        if not folder.resolve().is_relative_to(layout.root.resolve()):
            return f"{shown} is a link to {_target(folder)}, outside of the repository", "move the folder here"
    except FileNotFoundError:
        if folder.is_symlink():
            return f"{shown} is a link to {_target(folder)}, which does not exist", "let it point to a folder"
        near = [name for name in os.listdir(folder.parent) if name.lower() == folder.name]
        hint = f"rename {folder.parent.name}/{near[0]}" if near else f"make it, with a {DOCKERFILE} and a {MANIFEST}"
        return f"there is no folder {shown}/", hint
    except NotADirectoryError:
        return f"{shown} is a file, but must be a folder", "rename or remove it"
    except OSError as error:
        what, hint = os_fault(error)
        return f"{shown}/ {what}", hint
    return None


def _target(link: Path) -> str:
    return os.readlink(link) if link.is_symlink() else str(link.resolve())


def _nearest(pattern: str, paths: list[str]) -> str:
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents} - {"."}
    close = nearest(pattern, [*paths, *sorted(folders)])
    return "remove the line, or add the file" if close is None else f"did you mean '{close}'?"


def _read(path: Path, shown: str, hint: str, problems: list[Problem]) -> bytes | None:
    try:
        data = read_file(path, shown)
    except PipelineError as error:
        problems.extend(error.problems)
        return None
    if data is None:
        problems.append(Problem(shown, "there is no such file", hint))
    return data


def _read_script(path: Path, shown: str, problems: list[Problem]) -> bytes | None:
    """Read a tier's checks; None where it has none. What has the name and cannot be read is no tier without checks."""
    try:
        return read_file(path, shown)
    except PipelineError as error:
        problems.extend(error.problems)
        return None


def _walk(folder: Path, shown: str, problems: list[Problem], below: set[str] | None = None) -> Iterator[str]:
    """Yield the paths of all files and links under `folder`, sorted, links not followed.

    A folder that cannot be read is a problem, because what it holds might be an input.
    """

    def unreadable(error: OSError) -> None:
        path = os.path.relpath(error.filename, folder)
        problems.append(Problem(f"{shown}/{path}" if shown else path, *os_fault(error)))

    tops = sorted(os.listdir(folder) if below is None else below)
    for top in tops:
        path = folder / top
        if top in LITTER or not os.path.lexists(path):
            continue
        if path.is_symlink() or not path.is_dir():
            yield top
            continue
        for root, dirs, files in os.walk(path, onerror=unreadable):
            links = [d for d in dirs if os.path.islink(os.path.join(root, d))]
            dirs[:] = sorted(d for d in dirs if d not in LITTER and d not in links)
            for file in sorted([*files, *links]):
                if file not in LITTER and not file.endswith(".pyc"):
                    yield os.path.relpath(os.path.join(root, file), folder).replace(os.sep, "/")


def _read_files(chosen: Mapping[str, Path], shown: str, problems: list[Problem]) -> tuple[InputFile, ...]:
    files: list[InputFile] = []
    total = 0
    if len(chosen) > MAX_FILES:
        what = f"lists {len(chosen):,} files; the limit is {MAX_FILES:,}"
        problems.append(Problem(f"{shown}/{MANIFEST}", what, "exclude what the image does not need with '!' lines"))
        return ()
    for path in sorted(chosen):
        where = f"{shown}/{path}"
        try:
            file = _read_file(path, chosen[path], where)
        except PipelineError as error:
            problems.extend(error.problems)
            continue
        total += len(file.content)
        if total > MAX_TIER_BYTES:
            what = f"the files up to this one have {total:,} bytes; the limit of a build context is {MAX_TIER_BYTES:,}"
            problems.append(Problem(where, what, _LARGE))
            return tuple(files)
        files.append(file)
    problems.extend(_leaving_links(files, shown))
    return tuple(files)


_LARGE = "fetch large data in the Dockerfile, pinned by its hash"


def _read_file(path: str, real: Path, where: str) -> InputFile:
    """Read one input. Raises PipelineError with one problem."""
    if not _is_utf8(path):
        raise PipelineError(Problem(where, "the file's name is not UTF-8", "rename it, or exclude it in the manifest"))
    try:
        status = real.lstat()
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(real)
            if not _is_utf8(target):
                raise PipelineError(Problem(where, "the link's target is not UTF-8", "rename what it points to"))
            return InputFile(path, target.encode(), link=True)
    except FileNotFoundError:
        raise PipelineError(Problem(where, "vanished while it was read", "run doit again")) from None
    except OSError as error:
        raise PipelineError(Problem(where, *os_fault(error))) from None
    kind = kind_of_file(status.st_mode)
    if kind is not None:
        what = f"is {kind}, but must be a file or a link"
        raise PipelineError(Problem(where, what, "exclude it in the manifest"))
    if status.st_size > MAX_FILE_BYTES:
        what = f"is too large for a build context: {status.st_size:,} bytes; the limit is {MAX_FILE_BYTES:,}"
        raise PipelineError(Problem(where, what, _LARGE))
    content, status = read_input(real, where)
    return InputFile(path, content, bool(status.st_mode & stat.S_IXUSR))


def _is_utf8(text: str) -> bool:
    """Say whether a name of the file system is text: what is not has bytes in it that Python carries as surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _leaving_links(files: list[InputFile], shown: str) -> Iterator[Problem]:
    """Yield a problem for each link that leads out of the context, also by way of other links."""
    links = {file.path: file.content.decode() for file in files if file.link}
    for path, target in links.items():
        if _leaves(path, links):
            yield Problem(f"{shown}/{path}", f"the link to '{target}' leaves the build context", "copy the file")


def _leaves(path: str, links: Mapping[str, str]) -> bool:
    here: list[str] = []
    todo = path.split("/")
    for _ in range(_MOST_STEPS):
        if not todo:
            return False
        part = todo.pop(0)
        if part in {"", "."}:
            continue
        if part == "..":
            if not here:
                return True
            here.pop()
            continue
        target = links.get("/".join([*here, part]))
        if target is None:
            here.append(part)
        elif target.startswith("/"):
            return True
        else:
            todo = [*target.split("/"), *todo]
    return False  # a circle leads nowhere


def context_tar(files: Iterable[InputFile], dockerfile: bytes) -> bytes:
    """Return the build context as a tar: the files and the Dockerfile."""
    return archive([InputFile(DOCKERFILE, dockerfile), *files])


def archive(files: Iterable[InputFile]) -> bytes:
    """Return a tar that is a pure function of the files: sorted, without times, owners or umask."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in sorted(files, key=lambda file: file.path):
            info = tarfile.TarInfo(file.path)
            info.mtime = EPOCH
            info.mode = 0o755 if file.executable else 0o644
            if file.link:
                info.type = tarfile.SYMTYPE
                info.linkname = file.content.decode()
                tar.addfile(info)
            else:
                info.size = len(file.content)
                tar.addfile(info, io.BytesIO(file.content))
    return buffer.getvalue()
