"""Whether programs and libraries find what they need, as the image's loader looks for it. Nothing is run. Pure.

From each program, as ld.so(8) says: breadth first, a name that is loaded is not looked for again; DT_RPATH of the file that
asks and of those above it (unless the file has DT_RUNPATH), LD_LIBRARY_PATH, DT_RUNPATH, the loader's cache, its own folders.
Libraries that no program names are tried each by itself, as something that a program loads later: among packages of Python,
libraries of the same site-packages may have been loaded before it.
"""

from __future__ import annotations

import posixpath
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from imagetiers.binaries.elf import Elf, FormatError
from imagetiers.binaries.loader_cache import read_loader_cache
from imagetiers.config.checks import Declared
from imagetiers.judging.outcome import CheckOutcome, listed, nearest, union
from imagetiers.judging.torch_abi import foreign_extensions
from imagetiers.layers.image_config import ImageConfig
from imagetiers.layers.model import FileEntry
from imagetiers.layers.tree import FileTree

__all__ = ["CACHE", "judge_libraries"]

CACHE = "/etc/ld.so.cache"

# What NVIDIA's container toolkit mounts from the host.
_DRIVER = (
    "libcuda.so.*", "libnvidia-*.so.*", "libnvcuvid.so.*", "libnvoptix.so.*", "libcudadebugger.so.*",
    "libvdpau_nvidia.so.*", "libGLX_nvidia.so.*", "libEGL_nvidia.so.*", "libGLESv2_nvidia.so.*", "libGLESv1_CM_nvidia.so.*",
)  # fmt: skip
_MACHINES = {62: "x86_64", 183: "aarch64", 3: "i386", 40: "arm"}
_TRIPLES = {62: "x86_64-linux-gnu", 183: "aarch64-linux-gnu", 3: "i386-linux-gnu", 40: "arm-linux-gnueabihf"}
_MUSL = "ld-musl-"
_SITE = re.compile(r"(.*/(?:site|dist)-packages)/")
_LEFT_OUT = ("/usr/lib/debug/",)  # symbols for debuggers, which nobody loads


@dataclass
class _Loaded:
    entry: FileEntry
    elf: Elf
    above: _Loaded | None = None


@dataclass
class _Loader:
    """The loader of an image. `told` is what was not found, by who asks and the name; `reached` is what was loaded."""

    tree: FileTree
    library_path: tuple[str, ...]
    cache: Mapping[str, tuple[str, ...]]
    musl: bool
    in_packages: frozenset[tuple[str, str]]
    ignore: tuple[str, ...]
    told: dict[tuple[str, str], str] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)

    def load(self, entry: FileEntry, elf: Elf) -> None:
        """Load a file and all that it needs, and note what is not found."""
        loaded = {elf.soname, posixpath.basename(entry.path)}
        todo = deque([_Loaded(entry, elf)])
        while todo:
            asks = todo.popleft()
            self.reached.add(asks.entry.path)
            for name in asks.elf.needed:
                base = posixpath.basename(name)
                if base in loaded or self._from_outside(base) or _matches(asks.entry.path, self.ignore):
                    continue
                loaded.add(base)
                found = _find(self, asks, name)
                if found is not None and found.elf is not None:
                    loaded.add(found.elf.soname)
                    todo.append(_Loaded(found, found.elf, asks))
                elif not _loaded_before(self, entry.path, base):
                    self.told.setdefault((asks.entry.path, name), f"{asks.entry.path} needs {name}")

    def folders(self, elf: Elf) -> tuple[str, ...]:
        """Return the loader's own folders for files of a kind."""
        if self.musl:
            path = self.tree.find(f"/etc/ld-musl-{_MACHINES.get(elf.machine, '')}.path")
            own = path.content.decode(errors="replace").split() if path is not None and path.content else []
            return tuple(folder for line in own for folder in line.split(":")) or ("/lib", "/usr/local/lib", "/usr/lib")
        triple = _TRIPLES.get(elf.machine)
        wide = ("/lib64", "/usr/lib64") if elf.bits == 64 else ()  # noqa: PLR2004
        return (*((f"/lib/{triple}", f"/usr/lib/{triple}") if triple else ()), *wide, "/lib", "/usr/lib")

    def _from_outside(self, name: str) -> bool:
        """Say whether a library is the host's, musl's own loader, or of no interest."""
        return _matches(name, (*_DRIVER, *self.ignore)) or (self.musl and name.startswith("libc.musl-"))


def judge_libraries(declared: Sequence[Declared], tree: FileTree, config: ImageConfig) -> Iterator[CheckOutcome]:
    """Yield one outcome, with the files that lack something."""
    asked = nearest(declared, lambda checks: checks.libraries)
    if asked is None:
        return
    ignore = tuple(union(declared, lambda checks: checks.libraries or ()))
    hint = "what nobody loads, or comes from outside: `verify: {libraries: {ignore: [PATTERN]}}`"
    try:
        missing = list(_missing(tree, config, ignore))
    except FormatError as error:
        yield CheckOutcome(asked[0], "libraries", f"{CACHE} cannot be read: {error}", hint)
    else:
        yield CheckOutcome(asked[0], "libraries", listed("libraries are not found", missing), hint)


def _missing(tree: FileTree, config: ImageConfig, ignore: tuple[str, ...]) -> Iterator[str]:
    loader = _loader(tree, config, ignore)
    files = [
        entry
        for path, entry in tree.entries.items()
        if (entry.elf is not None or entry.elf_error) and not _matches(path, ignore) and not path.startswith(_LEFT_OUT)
    ]
    for entry in files:
        if entry.elf_error:
            yield f"{entry.path} cannot be read: {entry.elf_error}"
        elif entry.elf is not None and entry.elf.interpreter:
            if tree.find(entry.elf.interpreter) is None:
                yield f"{entry.path} cannot be started: there is no {entry.elf.interpreter}"
            loader.load(entry, entry.elf)
    for entry in files:
        if entry.elf is not None and not entry.elf.interpreter and entry.path not in loader.reached:
            loader.load(entry, entry.elf)
    yield from loader.told.values()
    yield from foreign_extensions(files)


def _loader(tree: FileTree, config: ImageConfig, ignore: tuple[str, ...]) -> _Loader:
    cache = tree.find(CACHE)
    if cache is not None and cache.content is None:
        raise FormatError("it is too large, or a link to a file of another name")
    in_packages = {
        (site[1], name)
        for entry in tree.entries.values()
        if entry.elf is not None and (site := _SITE.match(entry.path)) is not None
        for name in (entry.elf.soname, posixpath.basename(entry.path))
    }
    return _Loader(
        tree,
        tuple(folder for folder in config.env.get("LD_LIBRARY_PATH", "").split(":") if folder),
        read_loader_cache(cache.content) if cache is not None and cache.content else {},
        any(path.startswith(f"/lib/{_MUSL}") for path in tree.entries),
        frozenset(in_packages),
        ignore,
    )


def _loaded_before(loader: _Loader, path: str, name: str) -> bool:
    site = _SITE.match(path)
    return site is not None and (site[1], name) in loader.in_packages


def _find(loader: _Loader, asks: _Loaded, name: str) -> FileEntry | None:
    if "/" in name:
        return _fits(loader, name, asks.elf)
    for folder in _search(loader, asks):
        found = _fits(loader, f"{folder}/{name}", asks.elf)
        if found is not None:
            return found
    for path in loader.cache.get(name, ()):
        found = _fits(loader, path, asks.elf)
        if found is not None:
            return found
    return next(
        (found for folder in loader.folders(asks.elf) if (found := _fits(loader, f"{folder}/{name}", asks.elf))), None
    )


def _search(loader: _Loader, asks: _Loaded) -> Iterator[str]:
    """Yield the folders that come before the cache."""
    above: _Loaded | None = asks
    while above is not None and not asks.elf.runpath:
        if not above.elf.runpath:
            yield from _replaced(above.elf.rpath, above)
        above = above.above
    yield from loader.library_path
    yield from _replaced(asks.elf.runpath, asks)


def _replaced(folders: Iterable[str], of: _Loaded) -> Iterator[str]:
    """Put in what $ORIGIN, $LIB and $PLATFORM stand for."""
    machine = of.elf.machine
    for folder in folders:
        text = re.sub(r"\$(?:ORIGIN\b|\{ORIGIN\})", lambda _: posixpath.dirname(of.entry.path), folder)
        text = re.sub(r"\$(?:PLATFORM\b|\{PLATFORM\})", _MACHINES.get(machine, ""), text)
        if re.search(r"\$(?:LIB\b|\{LIB\})", text):
            for lib in (f"lib/{_TRIPLES.get(machine, '')}", "lib64", "lib"):
                yield re.sub(r"\$(?:LIB\b|\{LIB\})", lib, text)
        else:
            yield text


def _fits(loader: _Loader, path: str, elf: Elf) -> FileEntry | None:
    found = loader.tree.find(path) if path.startswith("/") else None
    return found if found is not None and found.elf is not None and found.elf.kind == elf.kind else None


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
