"""Whether something is in an image that must not be: programs, packages, paths, caches, credentials, rights. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from imagetiers.config.checks import Declared
from imagetiers.judging.files import search_path
from imagetiers.judging.outcome import CheckOutcome, listed, union
from imagetiers.layers.credentials import secret_variables
from imagetiers.layers.image_config import ImageConfig
from imagetiers.layers.model import FileEntry, FileKind
from imagetiers.layers.tree import FileTree

__all__ = ["PACKAGE_FILES", "judge_forbidden"]

PACKAGE_FILES = ("/var/lib/dpkg/status", "/lib/apk/db/installed", "/usr/lib/apk/db/installed")
_STATUS_FOLDER = "/var/lib/dpkg/status.d"  # of distroless images
_RPM = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")
_PYTHON = re.compile(r"/([^/]+?)-[^-/]+\.(?:dist-info|egg-info)$")

# Names as they stand on a PATH, also behind a target (x86_64-linux-gnu-gcc) and before a version (gcc-14).
_COMPILERS = re.compile(
    r"(?:[a-z0-9_]+-(?:[a-z0-9_]+-)*)?"
    r"(?:gcc|g\+\+|c\+\+|cc|c89|c99|cpp|clang|clang\+\+|gfortran|as|ld|ld\.bfd|ld\.gold|ld\.lld|lld|mold|nvcc|cicc|ptxas"
    r"|rustc|cargo|go|gofmt|make|gmake|cmake|ninja|meson|bazel|ccache|sccache)(?:-[0-9][0-9.]*)?"
)
# Folders whose files are of use to nobody once the image is built.
_CACHES = (
    "/var/lib/apt/lists",
    "/var/cache/apt/archives",
    "/var/cache/apk",
    "/etc/apk/cache",
    "/var/cache/dnf",
    "/var/cache/yum",
    "/var/cache/zypp",
    "/root/.cache",
    "/opt/conda/pkgs",
)
_HOME_CACHE = re.compile(r"/home/[^/]+/\.cache/.+")
_KEPT_EMPTY = {"lock", ".dockerenv"}
_SETUID, _SETGID, _STICKY, _OTHERS_WRITE, _RUN = 0o4000, 0o2000, 0o1000, 0o002, 0o111


def judge_forbidden(declared: Sequence[Declared], tree: FileTree, config: ImageConfig) -> Iterator[CheckOutcome]:
    """Yield what came out of each thing that is forbidden."""
    allow = tuple(union(declared, lambda checks: checks.forbid.allow))

    def let(paths: Iterable[str]) -> list[str]:
        return [path for path in paths if not any(fnmatchcase(path.partition(" ")[0], pattern) for pattern in allow)]

    hint = "what may be there all the same: `verify: {forbid: {allow: [PATTERN]}}`"
    path = search_path(config)
    for name, tier in union(declared, lambda checks: checks.forbid.programs).items():
        found = [entry.path for entry in _on_path(tree, path) if entry.path.rpartition("/")[2] == name]
        yield CheckOutcome(tier, f"forbidden program {name}", listed(f"{name} is on the PATH", let(found)), hint)
    packages = union(declared, lambda checks: checks.forbid.packages)
    if packages:
        yield from _packages(packages, tree)
    for pattern, tier in union(declared, lambda checks: checks.forbid.paths).items():
        found = [entry for entry in tree.entries if fnmatchcase(entry, pattern)]
        if not found and (entry := tree.at(pattern)) is not None:
            found = [entry.path]
        yield CheckOutcome(tier, f"forbidden path {pattern}", listed(f"{pattern} must not be there", let(found)), hint)
    for kind, tier in union(declared, lambda checks: sorted(checks.forbid.kinds)).items():
        what, find = _KINDS[kind]
        yield CheckOutcome(tier, f"forbidden {kind.replace('_', '-')}", listed(what, let(find(tree, config))), hint)


def _on_path(tree: FileTree, path: str) -> Iterator[FileEntry]:
    """Yield the names in the folders of the PATH that lead to files which somebody may run; folders that are links once."""
    folders = {found.path for folder in path.split(":") if (found := tree.find(folder)) is not None}
    for entry in tree.entries.values():
        if entry.path.rpartition("/")[0] in folders:
            led = tree.find(entry.path)
            if led is not None and led.kind is FileKind.FILE and led.mode & _RUN:
                yield entry


def _packages(packages: dict[str, str], tree: FileTree) -> Iterator[CheckOutcome]:
    unread = next((folder for folder in _RPM if any(tree.below(folder))), None)
    found: dict[str, str] = {}
    for path in (*PACKAGE_FILES, *(entry.path for entry in tree.below(_STATUS_FOLDER))):
        entry = tree.find(path)
        if entry is not None and entry.content is None:
            unread = path
        elif entry is not None and entry.content:
            apk = path.endswith("/installed")
            for name in _installed(entry.content.decode(errors="replace"), apk=apk):
                found.setdefault(_plain(name), "a package of Alpine" if apk else "a package of Debian")
    for path in tree.entries:
        match = _PYTHON.search(path)
        if match is not None:
            found.setdefault(_plain(match[1]), path)
    for name, tier in packages.items():
        if unread is not None:
            problem = f"nobody can tell whether {name} is installed: {unread} is not read"
        else:
            where = found.get(_plain(name))
            problem = f"{name} is installed ({where})" if where else ""
        yield CheckOutcome(tier, f"forbidden package {name}", problem)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(text: str, *, apk: bool) -> Iterator[str]:
    """Yield the names of a database of packages that are installed, and not only known."""
    for paragraph in text.split("\n\n"):
        fields = dict(line.split(":", 1) for line in paragraph.splitlines() if ":" in line and not line[0].isspace())
        if apk and "P" in fields:
            yield fields["P"].strip()
        elif "Package" in fields and fields.get("Status", "installed").split()[-1:] == ["installed"]:
            yield fields["Package"].strip()


def _compilers(tree: FileTree, config: ImageConfig) -> Iterator[str]:
    for entry in _on_path(tree, search_path(config)):
        if _COMPILERS.fullmatch(entry.path.rpartition("/")[2]):
            yield entry.path


def _caches(tree: FileTree, _config: ImageConfig) -> Iterator[str]:
    """Yield the first file of each cache: one is enough to say so, and there may be thousands."""
    seen: set[str] = set()
    for entry in tree.entries.values():
        if entry.kind is not FileKind.FILE or entry.path.rpartition("/")[2] in _KEPT_EMPTY or not entry.size:
            continue
        folder = next((each for each in _CACHES if entry.path.startswith(f"{each}/")), None)
        home = _HOME_CACHE.fullmatch(entry.path)
        where = folder or ("/".join(entry.path.split("/")[:4]) if home else None)
        if where is not None and where not in seen:
            seen.add(where)
            yield entry.path


def _git(tree: FileTree, _config: ImageConfig) -> Iterator[str]:
    for path in tree.entries:
        if path.endswith("/.git/HEAD"):
            yield path.removesuffix("/HEAD")


def _credentials(tree: FileTree, config: ImageConfig) -> Iterator[str]:
    for entry in tree.entries.values():
        yield from (f"{entry.path} holds {kind}" for kind in entry.credentials)
    for hidden in tree.hidden:
        where = f"layer {hidden.layer}, which a later one covers; it is still in the image"
        yield from (f"{hidden.entry.path} holds {kind}, in {where}" for kind in hidden.entry.credentials)
    yield from (f"env:{name} {why}" for name, why in secret_variables(config.env.items()))
    yield from (f"label:{name} {why}" for name, why in secret_variables(config.labels.items()))
    words = ((word.partition("=")[::2]) for step, _ in config.history for word in step.split() if "=" in word)
    yield from (f"history:{name} {why}, in the command of a layer" for name, why in secret_variables(words))


def _setuid(tree: FileTree, _config: ImageConfig) -> Iterator[str]:
    for entry in tree.entries.values():
        if entry.kind is FileKind.FILE and entry.mode & (_SETUID | _SETGID) and entry.mode & _RUN:
            yield f"{entry.path} has the mode {entry.mode:04o} and the owner {entry.uid}:{entry.gid}"


def _world_writable(tree: FileTree, _config: ImageConfig) -> Iterator[str]:
    for entry in tree.entries.values():
        folder = entry.kind is FileKind.FOLDER and not entry.mode & _STICKY
        if entry.mode & _OTHERS_WRITE and (folder or entry.kind is FileKind.FILE):
            yield f"{entry.path} has the mode {entry.mode:04o}"


_Find = Callable[[FileTree, ImageConfig], Iterator[str]]
_KINDS: dict[str, tuple[str, _Find]] = {
    "compilers": ("compilers and build tools are on the PATH", _compilers),
    "caches": ("caches are left", _caches),
    "git": ("git repositories are in the image", _git),
    "credentials": ("credentials are in the image", _credentials),
    "setuid": ("programs run with the rights of their owner or group", _setuid),
    "world_writable": ("everybody may write", _world_writable),
}
