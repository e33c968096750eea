"""The file system that an image's layers come to: the upper one wins, whiteouts remove, links are followed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from imagetiers.layers.model import FileEntry, FileKind, FileLayer, LayerError

__all__ = ["FileTree", "Hidden", "merge"]

_MOST_LINKS = 40  # as the kernel has it
_MOST_FOLDERS = 300  # one in the other


@dataclass(frozen=True, slots=True)
class Hidden:
    """A file of a layer, counted from 1, that an upper one has replaced or removed: it is still in the image."""

    layer: int
    entry: FileEntry


@dataclass(frozen=True, slots=True)
class FileTree:
    """A file system by absolute path, in order, and the files with credentials that lower layers still hold."""

    entries: Mapping[str, FileEntry]
    hidden: tuple[Hidden, ...] = ()

    def find(self, path: str) -> FileEntry | None:
        """Return what a path leads to, symbolic links followed, the last one, too; None where it leads nowhere."""
        return self._walk(path, follow=True)

    def at(self, path: str) -> FileEntry | None:
        """Return what a path itself is: of a symbolic link the link; those of its folders are followed."""
        return self._walk(path, follow=False)

    def below(self, folder: str) -> Iterator[FileEntry]:
        """Yield what lies directly in a folder, of which the links are followed."""
        found = self.find(folder)
        prefix = f"{found.path.rstrip('/')}/" if found is not None and found.kind is FileKind.FOLDER else None
        if prefix is not None:
            yield from (entry for path, entry in self.entries.items() if path.rpartition("/")[0] + "/" == prefix)

    def program(self, name: str, path: str) -> FileEntry | None:
        """Return the file that a shell runs for a name with that PATH; None where there is none, or nobody may run it."""
        for folder in path.split(":"):
            entry = self.find(f"{folder}/{name}") if folder.startswith("/") else None
            if entry is not None and entry.kind is FileKind.FILE and entry.mode & 0o111:
                return entry
        return None

    def _walk(self, path: str, *, follow: bool) -> FileEntry | None:
        todo = [part for part in reversed(path.split("/")) if part and part != "."]
        here = "/"
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                here = here.rpartition("/")[0] or "/"
                continue
            entry = self.entries.get(f"{here.rstrip('/')}/{part}")
            if entry is None:
                return None
            if entry.kind is FileKind.LINK and (todo or follow):
                links += 1
                if links > _MOST_LINKS:
                    return None
                if entry.target.startswith("/"):
                    here = "/"
                todo += [each for each in reversed(entry.target.split("/")) if each and each != "."]
            elif todo and entry.kind is not FileKind.FOLDER:
                return None
            else:
                here = entry.path
        return self.entries.get(here) or FileEntry("/", FileKind.FOLDER, 0o755)


@dataclass
class _Node:
    entry: FileEntry | None = None
    layer: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


def merge(layers: Iterable[FileLayer]) -> FileTree:
    """Return what the layers come to, the lowest first. Raises LayerError for what is no file system."""
    root = _Node()
    hidden: list[Hidden] = []
    for number, layer in enumerate(layers, 1):
        for path in layer.opaque:
            node = _get(root, path)
            if node is not None:
                _hide(node.children.values(), hidden)
                node.children.clear()
        for path in layer.removed:
            folder, _, name = path.rpartition("/")
            parent = _get(root, folder)
            if parent is not None and name in parent.children:
                _hide([parent.children.pop(name)], hidden)
        linked = [replace(_origin(root, origin), path=path) for path, origin in layer.links]
        for entry in (*layer.entries, *linked):
            _put(root, entry, number, hidden)
    found = dict(_flat(root, ""))
    return FileTree(MappingProxyType(found), tuple(hidden))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _get(root: _Node, path: str) -> _Node | None:
    node: _Node | None = root
    for part in _parts(path):
        node = node.children.get(part) if node is not None else None
    return node


def _origin(root: _Node, path: str) -> FileEntry:
    node = _get(root, path)
    if node is None or node.entry is None:
        raise LayerError(f"a layer has a hard link to {path}, which is nowhere")
    return node.entry


def _put(root: _Node, entry: FileEntry, layer: int, hidden: list[Hidden]) -> None:
    node = root
    parts = _parts(entry.path)
    if len(parts) > _MOST_FOLDERS:
        raise LayerError(f"{entry.path[:60]}… lies in more than {_MOST_FOLDERS:,} folders")
    for part in parts:
        if node.entry is not None and node.entry.kind is not FileKind.FOLDER:
            node.entry = None  # a folder takes the place of what was there
        node = node.children.setdefault(part, _Node())
    if node.entry is not None and node.layer != layer:
        _hide([_Node(node.entry, node.layer)], hidden)
    if entry.kind is not FileKind.FOLDER:
        _hide(node.children.values(), hidden)
        node.children.clear()
    node.entry, node.layer = entry, layer


def _hide(nodes: Iterable[_Node], hidden: list[Hidden]) -> None:
    todo = list(nodes)
    while todo:
        node = todo.pop()
        todo += node.children.values()
        if node.entry is not None and node.entry.credentials:
            hidden.append(Hidden(node.layer, node.entry))


def _flat(node: _Node, path: str) -> Iterator[tuple[str, FileEntry]]:
    for name, child in sorted(node.children.items()):
        below = f"{path}/{name}"
        yield below, child.entry or FileEntry(below, FileKind.FOLDER, 0o755)
        if child.children:
            yield from _flat(child, below)
