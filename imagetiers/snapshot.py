"""One reading of the tiers' files: what is hashed here is, byte for byte, what is sent to the builder.

A tier's manifest (`.image-manifest`) lists its inputs, one path or glob a line: `dir/` or `dir` means everything below,
`**` any depth, `!` takes away again, `#` begins a comment, and `//path` is taken from the repository's root.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imagetiers.dockerfile.context import Tree
from imagetiers.errors import PipelineError, Problem
from imagetiers.layout import DOCKERFILE, MANIFEST, VERIFY_SCRIPT, Layout
from imagetiers.repository_file import decode, kind_of_file, read_file

__all__ = ["InputFile", "ManifestLine", "Snapshot", "TierFiles", "archive", "context_tar", "take_snapshot"]

MAX_FILE_BYTES = 64 << 20
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
class ManifestLine:
    """One line of a manifest: its number (from 1) and pattern; `exclude` for `!`, `from_root` for `//`."""

    number: int
    pattern: str
    exclude: bool = False
    from_root: bool = False

    def matches(self, path: str) -> bool:
        """Say whether a path (relative, with `/`) is meant by this line."""
        return _glob(self.pattern).fullmatch(path) is not None


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
    if not folder.is_dir():
        problems.append(
            Problem(f"tiers.{name}", f"there is no folder {shown}/", f"make it, with a {DOCKERFILE} and a {MANIFEST}")
        )
        return None
    dockerfile = _read(folder / DOCKERFILE, f"{shown}/{DOCKERFILE}", "write the image's Dockerfile there", problems)
    hint = "list the files that the Dockerfile copies; an empty file is fine for none"
    manifest = _read(folder / MANIFEST, f"{shown}/{MANIFEST}", hint, problems)
    verify = _read_script(folder / VERIFY_SCRIPT, f"{shown}/{VERIFY_SCRIPT}", problems)
    if dockerfile is None or manifest is None:
        return None
    lines = tuple(_manifest_lines(manifest, f"{shown}/{MANIFEST}", problems))
    own = [path for path in _walk(folder) if path not in _OWN]
    shared = list(_walk(layout.root, below={line.pattern.split("/")[0] for line in lines if line.from_root}))
    chosen: dict[str, Path] = {}
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
            for path in found:
                excluded.discard(path)
                chosen[path] = base / path
    files = _read_files(chosen, shown, problems)
    unlisted = tuple(path for path in own if path not in chosen and path not in excluded)
    return TierFiles(name, dockerfile, verify, files, lines, unlisted)


def _nearest(pattern: str, paths: list[str]) -> str:
    import difflib

    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents} - {"."}
    close = difflib.get_close_matches(pattern, [*paths, *sorted(folders)], n=1)
    return f"did you mean '{close[0]}'?" if close else "remove the line, or add the file"


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


def _manifest_lines(data: bytes, name: str, problems: list[Problem]) -> Iterator[ManifestLine]:
    try:
        text = decode(data, name)
    except PipelineError as error:
        problems.extend(error.problems)
        return
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        exclude = line.startswith("!")
        line = line[1:].strip() if exclude else line
        from_root = line.startswith("//")
        pattern = (line[2:] if from_root else line.removeprefix("./")).rstrip("/")
        wrong = _wrong_pattern(pattern)
        if wrong is not None:
            problems.append(Problem(f"{name}:{number}", f"'{raw.strip()}' {wrong[0]}", wrong[1]))
            continue
        yield ManifestLine(number, pattern, exclude, from_root)


def _wrong_pattern(pattern: str) -> tuple[str, str] | None:
    if pattern in {"", "."}:
        return "names no file", "write ** for all that lies in the folder, or remove the line"
    if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
        hint = "write it relative to the tier's folder, or //path from the repository's root"
        return "leaves the tier's folder", hint
    if any(not char.isprintable() and char != "\t" for char in pattern):
        return "holds a character that cannot be seen", "remove it"
    try:
        _glob(pattern)
    except ValueError as error:
        return str(error), "[abc], [a-z] or [!abc]; write [[] for the bracket itself"
    if " #" in pattern:
        return "holds a '#', which begins no comment here", "a comment stands on a line of its own"
    return None


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Translate the class that begins at `at`; return it and where it ends. Raises ValueError."""
    end = pattern.find("]", at + 2)
    if end < 0:
        raise ValueError("has a [ without its ]")
    inner = pattern[at + 1 : end]
    negated = inner.startswith("!")
    text = "".join("\\" + char if char in "\\^[&~|" else char for char in inner[negated:])
    try:
        re.compile(f"[{text}]")
    except re.error:
        raise ValueError(f"has the range [{inner}], which is empty") from None
    return (f"[^/{text}]" if negated else f"[{text}]"), end + 1


@functools.cache
def _glob(pattern: str) -> re.Pattern[str]:
    """Translate a manifest pattern; what it matches includes everything below a matched folder. Raises ValueError."""
    out = ""
    i = 0
    while i < len(pattern):
        if pattern.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif pattern.startswith("**", i):
            out, i = out + ".*", i + 2
        elif pattern[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif pattern[i] == "?":
            out, i = out + "[^/]", i + 1
        elif pattern[i] == "[":
            text, i = _class(pattern, i)
            out += text
        else:
            out, i = out + re.escape(pattern[i]), i + 1
    return re.compile(f"{out}(?:/.*)?", re.DOTALL)


def _walk(folder: Path, below: set[str] | None = None) -> Iterator[str]:
    """Yield the paths of all files and links under `folder`, sorted, links not followed."""
    tops = sorted(os.listdir(folder) if below is None else below)
    for top in tops:
        if top in LITTER:
            continue
        path = folder / top
        if path.is_symlink() or not path.is_dir():
            if path.is_symlink() or path.exists():
                yield top
            continue
        for root, dirs, files in os.walk(path):
            links = [d for d in dirs if os.path.islink(os.path.join(root, d))]
            dirs[:] = sorted(d for d in dirs if d not in LITTER and d not in links)
            for file in sorted([*files, *links]):
                if file not in LITTER and not file.endswith(".pyc"):
                    yield os.path.relpath(os.path.join(root, file), folder).replace(os.sep, "/")


def _read_files(chosen: Mapping[str, Path], shown: str, problems: list[Problem]) -> tuple[InputFile, ...]:
    files: list[InputFile] = []
    total = 0
    if len(chosen) > MAX_FILES:
        problems.append(Problem(f"{shown}/{MANIFEST}", f"lists {len(chosen):,} files; the limit is {MAX_FILES:,}", ""))
        return ()
    for path in sorted(chosen):
        where = f"{shown}/{path}"
        if not _is_utf8(path):
            problems.append(Problem(where, "the file's name is not UTF-8", "rename it, or exclude it in the manifest"))
            continue
        try:
            status = chosen[path].lstat()
            total += status.st_size
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(chosen[path])
                if not target.isascii() and not _is_utf8(target):
                    problems.append(Problem(where, "the link's target is not UTF-8", "rename what it points to"))
                    continue
                files.append(InputFile(path, target.encode(), link=True))
            elif (kind := kind_of_file(status.st_mode)) is not None:
                problems.append(
                    Problem(where, f"is {kind}, but must be a file or a link", "exclude it in the manifest")
                )
            elif status.st_size > MAX_FILE_BYTES or total > MAX_TIER_BYTES:
                what = f"is too large for a build context ({status.st_size:,} bytes; {total:,} in all so far)"
                problems.append(Problem(where, what, "fetch large data in the Dockerfile, pinned by its hash"))
                return tuple(files)
            else:
                content = chosen[path].read_bytes()
                files.append(InputFile(path, content, bool(status.st_mode & stat.S_IXUSR)))
        except OSError as error:
            problems.append(Problem(where, f"cannot be read: {error.strerror}", "check the file's permissions"))
    problems.extend(_leaving_links(files, shown))
    return tuple(files)


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
