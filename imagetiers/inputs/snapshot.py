"""One reading of the tiers' files: what is hashed here is, byte for byte, what is sent to the builder.

Tiers may share a folder. Its manifest (`.image-manifest`) lists its inputs, one path or glob a line: `dir/` or `dir` means
everything below, `**` any depth, `!` takes away again, `#` begins a comment, and `//path` is taken from the repository's root.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imagetiers.config.layout import DOCKERFILE, MANIFEST, VERIFY_SCRIPT, Layout
from imagetiers.config.model import Tier
from imagetiers.dockerfile.context import Tree
from imagetiers.errors import PipelineError, Problem
from imagetiers.inputs.dockerignore import IGNORE_FILE, Ignored, read_ignore_file
from imagetiers.inputs.files import InputFile, input_file
from imagetiers.inputs.manifest import ManifestLine, read_manifest
from imagetiers.parallel import map_parallel
from imagetiers.repository_file import Reads, hash_input, identity, kind_of_file, os_fault, read_file, read_input
from imagetiers.suggestions import nearest

__all__ = ["Snapshot", "TierFiles", "read_folder", "take_snapshot"]

MAX_TIER_BYTES = 64 << 30
LARGE_BYTES = 1 << 20  # of a file that is hashed once, and not held
MAX_FILES = 50_000
_MOST_STEPS = 4096  # on the way that a link leads

# Left behind by tools, never an input: not even a glob finds them.
LITTER = frozenset({"__pycache__", ".git", ".DS_Store", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
_OWN = frozenset({MANIFEST, DOCKERFILE, VERIFY_SCRIPT})


@dataclass(frozen=True, slots=True)
class TierFiles:
    """Everything read of a tier's folder. `unlisted` are paths in it that the manifest neither lists nor excludes."""

    dockerfile: bytes
    verify: bytes | None
    files: tuple[InputFile, ...]
    lines: tuple[ManifestLine, ...] = ()
    unlisted: tuple[str, ...] = ()

    def tree(self, *, with_unlisted: bool = False) -> Tree:
        """Return the listed files as a build context to look paths up in."""
        listed = {file.path: file.target if file.link else None for file in self.files}
        return Tree({**dict.fromkeys(self.unlisted if with_unlisted else ()), **listed})


Snapshot = Mapping[str, TierFiles]


def take_snapshot(layout: Layout, tiers: Iterable[Tier], reads: Reads) -> tuple[Snapshot, Mapping[str, PipelineError]]:
    """Read the folders of `tiers`, each Dockerfile once; `reads` notes what is looked at.

    Returns the tiers' files and what is wrong with the others, by their names. A problem without a place is one of the
    tier's `folder`.
    """
    own: dict[str, set[str]] = {}
    listed = list(tiers)
    for tier in listed:
        own.setdefault(tier.folder_path, set(_OWN)).add(tier.dockerfile)
    read: dict[str, TierFiles | PipelineError] = {}
    for tier in listed:
        if tier.dockerfile_path not in read:
            read[tier.dockerfile_path] = _read_folder(layout, tier, own[tier.folder_path], reads)
    found = {tier.name: read[tier.dockerfile_path] for tier in listed}
    files = {name: one for name, one in found.items() if isinstance(one, TierFiles)}
    return files, {name: one for name, one in found.items() if isinstance(one, PipelineError)}


def _read_folder(layout: Layout, tier: Tier, not_inputs: Container[str], reads: Reads) -> TierFiles | PipelineError:
    problems: list[Problem] = []
    files = _read_tier(layout, tier, not_inputs, problems, reads)
    return files if files is not None and not problems else PipelineError(*problems)


def read_folder(layout: Layout, folder: str, reads: Reads, problems: list[Problem]) -> tuple[InputFile, ...] | None:
    """Read a folder of the repository, without what its `.dockerignore` leaves out, and without that file itself.

    Adds to `problems` what cannot be read. None: there is no such folder, or a link leads to it.
    """
    root = str(layout.root)
    found = list(_walk_shared(root, folder, problems, reads))
    inside = [path.removeprefix(f"{folder}/") for path in found if path != folder]
    if not inside:
        return None if found or not os.path.isdir(f"{root}/{folder}") else ()
    ignored = Ignored()
    if IGNORE_FILE in inside:
        shown = f"{folder}/{IGNORE_FILE}"
        try:
            data = read_file(layout.root / folder / IGNORE_FILE, shown, reads)
        except PipelineError as error:
            problems.extend(error.problems)
            data = None
        ignored = read_ignore_file(data, shown, problems) if data is not None else ignored
    kept = list(ignored.kept(path for path in inside if path != IGNORE_FILE))
    if len(kept) > MAX_FILES:
        what = f"has {len(kept):,} files; the limit is {MAX_FILES:,}"
        problems.append(Problem(folder, what, f"leave out with {IGNORE_FILE} what no image needs"))
        return ()
    return _read_files({path: f"{root}/{folder}/{path}" for path in kept}, folder, problems, reads)


def _read_tier(
    layout: Layout, tier: Tier, not_inputs: Container[str], problems: list[Problem], reads: Reads
) -> TierFiles | None:
    folder, shown = layout.root / tier.folder_path, tier.folder_path
    reads.look(str(folder))
    fault = _folder_fault(layout, folder, shown)
    if fault is not None:
        problems.append(Problem("", *fault))
        return None
    dockerfile = _read(
        folder / tier.dockerfile, tier.dockerfile_path, "write the image's Dockerfile there", problems, reads
    )
    hint = "list the files that the Dockerfile copies; an empty file is fine for none"
    manifest = _read(folder / MANIFEST, f"{shown}/{MANIFEST}", hint, problems, reads)
    verify = _read_script(folder / VERIFY_SCRIPT, f"{shown}/{VERIFY_SCRIPT}", problems, reads)
    if dockerfile is None or manifest is None:
        return None
    lines = tuple(read_manifest(manifest, f"{shown}/{MANIFEST}", problems))
    here, root = str(folder), str(layout.root)
    own = sorted(path for path in _walk(here, "", shown, problems, reads) if path not in not_inputs)
    starts = {line.start for line in lines if line.from_root}
    whole = {start for start in starts if starts.isdisjoint(map(str, PurePosixPath(start).parents))}
    shared = sorted(path for start in whole for path in _walk_shared(root, start, problems, reads))
    chosen: dict[str, str] = {}
    by_line: dict[str, ManifestLine] = {}
    excluded: set[str] = set()
    for line in lines:
        base, paths = (root, shared) if line.from_root else (here, own)
        found = line.among(paths)
        if line.exclude:
            excluded.update(found)
            for path in found:
                chosen.pop(path, None)
        else:
            if not found:
                where = f"{shown}/{MANIFEST}:{line.number}"
                own_hint = "remove the line: it is never a file of the image" if line.pattern in not_inputs else ""
                if line.from_root:  # also what lies beside it may have been meant
                    paths = sorted(_walk_shared(root, line.pattern.split("/")[0], problems, reads))
                hint = own_hint or _nearest(line.pattern, paths)
                problems.append(Problem(where, f"nothing matches '{line.pattern}'", hint))
            taken = [path for path in found if chosen.get(path, f"{base}/{path}") != f"{base}/{path}"]
            if taken:
                problems.append(_two_files(f"{shown}/{MANIFEST}", taken, by_line[taken[0]], line))
            excluded.difference_update(found)
            chosen.update((path, f"{base}/{path}") for path in found)
            by_line.update(dict.fromkeys(found, line))
    files = _read_files(chosen, shown, problems, reads)
    unlisted = tuple(path for path in own if path not in chosen and path not in excluded)
    return TierFiles(dockerfile, verify, files, lines, unlisted)


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


def _read(path: Path, shown: str, hint: str, problems: list[Problem], reads: Reads) -> bytes | None:
    try:
        data = read_file(path, shown, reads)
    except PipelineError as error:
        problems.extend(error.problems)
        return None
    if data is None:
        problems.append(Problem(shown, "there is no such file", hint))
    return data


def _read_script(path: Path, shown: str, problems: list[Problem], reads: Reads) -> bytes | None:
    """Read a tier's checks; None where it has none. What has the name and cannot be read is no tier without checks."""
    try:
        return read_file(path, shown, reads)
    except PipelineError as error:
        problems.extend(error.problems)
        return None


def _walk(folder: str, top: str, shown: str, problems: list[Problem], reads: Reads) -> Iterator[str]:
    """Yield the paths (from `folder`) of all files and links in its folder `top` ('' for itself); links are not followed.

    A folder that cannot be read is a problem, because what it holds might be an input.
    """
    left = [top]
    while left:
        inside = left.pop()
        path = f"{folder}/{inside}" if inside else folder
        reads.look(path)
        try:
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(Problem(f"{shown}/{inside}" if shown else inside, *os_fault(error)))
            continue
        folders = []
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.name in LITTER:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif not (inside and name.endswith(".pyc")):
                yield name
        left += reversed(folders)


def _walk_shared(root: str, start: str, problems: list[Problem], reads: Reads) -> Iterator[str]:
    """Yield what lies at a path of the repository and below, as `_walk` does: what a link leads to is somewhere else."""
    parts = start.split("/")
    if not LITTER.isdisjoint(parts):
        return
    for depth in range(1, len(parts) + 1):
        inside = "/".join(parts[:depth])
        path = f"{root}/{inside}"
        reads.look(path)
        if os.path.islink(path) or not os.path.isdir(path):
            if inside == start and os.path.lexists(path):
                yield start
            return
    yield from _walk(root, start, "", problems, reads)


def _read_files(chosen: Mapping[str, str], shown: str, problems: list[Problem], reads: Reads) -> tuple[InputFile, ...]:
    if len(chosen) > MAX_FILES:
        what = f"lists {len(chosen):,} files; the limit is {MAX_FILES:,}"
        problems.append(Problem(f"{shown}/{MANIFEST}", what, "exclude what the image does not need with '!' lines"))
        return ()
    files: dict[str, InputFile] = {}
    large: list[str] = []
    total = 0
    for path in sorted(chosen):
        where = f"{shown}/{path}"
        try:
            found = _read_file(path, chosen[path], where, reads)
        except PipelineError as error:
            problems.extend(error.problems)
            continue
        if isinstance(found, int):
            large.append(path)
        else:
            files[path] = found
        total += found if isinstance(found, int) else found.size
        if total > MAX_TIER_BYTES:
            what = f"the files up to this one have {total:,} bytes; the limit of a build context is {MAX_TIER_BYTES:,}"
            problems.append(Problem(where, what, _LARGE))
            return tuple(files.values())
    for path, made in zip(large, _hash_large([(path, chosen[path]) for path in large], shown, reads), strict=True):
        if isinstance(made, PipelineError):
            problems.extend(made.problems)
        else:
            files[path] = made
    problems.extend(_leaving_links(list(files.values()), shown))
    return tuple(files[path] for path in sorted(files))


_LARGE = "fetch large data in the Dockerfile, pinned by its hash"


def _read_file(path: str, real: str, where: str, reads: Reads) -> InputFile | int:
    """Read one input; of a large one return how large it is. Raises PipelineError with one problem."""
    if not _is_utf8(path):
        raise PipelineError(Problem(where, "the file's name is not UTF-8", "rename it, or exclude it in the manifest"))
    try:
        status = os.lstat(real)
        if stat.S_ISLNK(status.st_mode):
            reads.saw(real, status)
            target = os.readlink(real)
            if not _is_utf8(target):
                raise PipelineError(Problem(where, "the link's target is not UTF-8", "rename what it points to"))
            return input_file(path, target.encode(), link=True)
    except FileNotFoundError:
        raise PipelineError(Problem(where, "vanished while it was read", "run doit again")) from None
    except OSError as error:
        raise PipelineError(Problem(where, *os_fault(error))) from None
    kind = kind_of_file(status.st_mode)
    if kind is not None:
        what = f"is {kind}, but must be a file or a link"
        raise PipelineError(Problem(where, what, "exclude it in the manifest"))
    if status.st_size > MAX_TIER_BYTES:
        what = f"is too large for a build context: {status.st_size:,} bytes; the limit is {MAX_TIER_BYTES:,}"
        raise PipelineError(Problem(where, what, _LARGE))
    if status.st_size > LARGE_BYTES:
        return status.st_size
    content, status = read_input(real, where)
    reads.saw(real, status)
    sha256 = hashlib.sha256(content).hexdigest()
    executable = bool(status.st_mode & stat.S_IXUSR)
    return InputFile(path, sha256, len(content), executable, content=reads.hold(content), source=real)


def _hash_large(files: list[tuple[str, str]], shown: str, reads: Reads) -> list[InputFile | PipelineError]:
    """Hash large files, on all processors, but those that an earlier reading has hashed as they are now."""

    def hashed(file: tuple[str, str]) -> InputFile | PipelineError:
        path, real = file
        try:
            status = os.lstat(real)
            known, sha256 = reads.hashes.get(real, (b"", ""))
            if identity(status) != known:
                sha256, status = hash_input(real, f"{shown}/{path}")
        except PipelineError as error:
            return error
        except OSError as error:
            return PipelineError(Problem(f"{shown}/{path}", *os_fault(error)))
        reads.saw(real, status)
        reads.hashed[real] = identity(status), sha256
        return InputFile(path, sha256, status.st_size, bool(status.st_mode & stat.S_IXUSR), source=real)

    return map_parallel(hashed, files, os.cpu_count() or 1) if files else []


def _is_utf8(text: str) -> bool:
    """Say whether a name of the file system is text: what is not has bytes in it that Python carries as surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _leaving_links(files: list[InputFile], shown: str) -> Iterator[Problem]:
    """Yield a problem for each link that leads out of the context, also by way of other links."""
    links = {file.path: file.target for file in files if file.link}
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
