"""What an image weighs: by layer, folder and package, and the bytes that stand in it twice. Pure.

All sizes are bytes, unpacked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from imagetiers.layers.archive import ImageFiles
from imagetiers.layers.model import FileEntry, FileKind, FileLayer, is_package_list

__all__ = ["Duplicate", "LayerSize", "Made", "Repetition", "Sizes", "attribute", "layer_sizes", "weigh_image"]

_DEEPEST = 5  # folders below the root that are told apart
_MOSTLY = 0.9  # of a folder: then that one is meant
_LONGEST = 200  # letters of an instruction that are kept


class Repetition(Enum):
    """Repetition bytes come to stand twice in an image."""

    REPLACED = "replaced"
    TOUCHED = "the same content again (its mode, owner or time was changed)"
    REMOVED = "removed"
    COPIED = "a copy under another name"


@dataclass(frozen=True, slots=True)
class Made:
    """What has made a layer: the place in a Dockerfile and the instruction; of a layer of a base image, no place."""

    where: str
    instruction: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """What a layer makes stand twice, in so many files; `path` is the largest of them, or the folder that most lie in."""

    layer: int
    how: Repetition
    size: int
    files: int
    path: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """What an image weighs. `layers` are the bytes of each, the first one first."""

    layers: tuple[int, ...]
    visible: int
    duplicates: tuple[Duplicate, ...]
    folders: tuple[tuple[str, int], ...]
    packages: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """The bytes of all layers."""
        return sum(self.layers)

    def duplicate_bytes(self, since: int) -> int:
        """Return the bytes that layers from that number on make stand twice."""
        return sum(duplicate.size for duplicate in self.duplicates if duplicate.layer >= since)


@dataclass(frozen=True, slots=True)
class LayerSize:
    """A layer as a verdict keeps it: its bytes, how many of them stand in the image twice by it, and what has made it."""

    size: int
    twice: int
    instruction: str


def attribute(image: ImageFiles, instructions: Iterable[tuple[str, str]]) -> tuple[Made, ...]:
    """Say what has made each layer.

    `instructions` are those of the Dockerfiles of the tier and its ancestors, eldest first, in order: the place, and the
    keyword. An image's history ends in exactly these; where it does not, nobody can tell, and nothing is guessed.
    """
    given, history = tuple(instructions), image.config.history
    texts = {layer: text for text, layer in history}
    made = [Made("", _shown(texts.get(number, ""))) for number in range(len(image.layers))]
    tail = history[len(history) - len(given) :]
    if len(given) > len(history) or not all(
        text.split(" ", 1)[0].upper() == keyword for (_, keyword), (text, _) in zip(given, tail, strict=True)
    ):
        return tuple(made)
    for (where, _), (text, layer) in zip(given, tail, strict=True):
        if layer is not None and layer < len(made):
            made[layer] = Made(where, _shown(text))
    return tuple(made)


def layer_sizes(image: ImageFiles, sizes: Sizes) -> tuple[LayerSize, ...]:
    """Return what is kept of an image's layers, the first one first; `sizes` are this image's."""
    twice: defaultdict[int, int] = defaultdict(int)
    for duplicate in sizes.duplicates:
        twice[duplicate.layer] += duplicate.size
    made = attribute(image, ())
    return tuple(
        LayerSize(size, twice[number], made[number].instruction[:_LONGEST]) for number, size in enumerate(sizes.layers)
    )


def _shown(text: str) -> str:
    words = text.removesuffix(" # buildkit").split()
    if words[:1] == ["RUN"] and len(words) > 1 and words[1].startswith("|"):  # |2 A=1 B=2 /bin/sh -c …
        del words[1 : 2 + int(words[1][1:]) if words[1][1:].isdecimal() else 2]
    return " ".join(words).replace("/bin/sh -c ", "", 1)


def weigh_image(layers: Sequence[FileLayer]) -> Sizes:
    """Return what an image weighs whose layers were read for `sizes`."""
    tree = _Tree()
    for number, layer in enumerate(layers):
        tree.lay(number, layer)
    visible = {path: file for path, (_, file) in tree.files.items()}
    return Sizes(
        layers=tuple(layer.size for layer in layers),
        visible=sum(file.own_size for file in visible.values()),
        duplicates=tuple(sorted(_grouped([*tree.hidden, *_copies(tree)]), key=lambda each: -each.size)),
        folders=tuple(_folders(visible)),
        packages=tuple(_packages(visible)),
    )


_Hidden = tuple[int, Repetition, FileEntry]


class _Tree:
    """The files that are to be seen, layer after layer, and those that are not any more."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, FileEntry]] = {}
        self.hidden: list[_Hidden] = []
        self._below: defaultdict[str, set[str]] = defaultdict(set)

    def lay(self, number: int, layer: FileLayer) -> None:
        """Lay a layer over those before it. What it takes away, it takes from those, whatever its own order is."""
        for removed in layer.removed:
            for path in self._all_below(removed, itself=True):
                self._hide(number, Repetition.REMOVED, path)
        for opaque in layer.opaque:
            for path in self._all_below(opaque.rstrip("/"), itself=False):
                self._hide(number, Repetition.REMOVED, path)
        linked = [FileEntry(path, FileKind.FILE, 0, hard_link=True) for path, _ in layer.links]
        for file in (*layer.entries, *linked):
            if file.kind is FileKind.FOLDER:
                if file.path in self.files:
                    self._hide(number, Repetition.REPLACED, file.path)
                continue
            before = self.files.get(file.path)
            if before is not None:
                same = (before[1].hash, before[1].size) == (file.hash, file.size)
                self._hide(number, Repetition.TOUCHED if same else Repetition.REPLACED, file.path)
            self.files[file.path] = number, file
            self._note(file.path)

    def _note(self, path: str) -> None:
        while path:
            folder = path.rpartition("/")[0]
            if path in self._below[folder]:
                return
            self._below[folder].add(path)
            path = folder

    def _all_below(self, path: str, *, itself: bool) -> list[str]:
        todo, found = [path], []
        while todo:
            each = todo.pop()
            if each in self.files and (itself or each != path):
                found.append(each)
            todo += self._below.get(each, ())
        return found

    def _hide(self, number: int, how: Repetition, path: str) -> None:
        layer, file = self.files.pop(path)
        self._below[path.rpartition("/")[0]].discard(path)
        if layer != number and file.own_size:
            self.hidden.append((number, how, file))


def _copies(tree: _Tree) -> Iterator[_Hidden]:
    """Yield files that are to be seen under another name as well, but for the first of each content."""
    seen: set[tuple[bytes, int]] = set()
    for number, file in sorted(tree.files.values(), key=lambda entry: (entry[0], entry[1].path)):
        if file.own_size and (file.hash, file.size) in seen:
            yield number, Repetition.COPIED, file
        seen.add((file.hash, file.size))


def _grouped(hidden: Iterable[_Hidden]) -> Iterator[Duplicate]:
    groups: defaultdict[tuple[int, Repetition], list[FileEntry]] = defaultdict(list)
    for number, how, file in hidden:
        groups[number, how].append(file)
    for (number, how), files in groups.items():
        sizes = {file.path: file for file in files}
        mostly = next(iter(_folders(sizes)), ("", 0))
        total = sum(file.size for file in files)
        largest = max(files, key=lambda file: file.size)
        path = largest.path if largest.size >= _MOSTLY * total or not mostly[0] else f"{mostly[0]}/"
        yield Duplicate(number, how, total, len(files), path)


def _folders(files: Mapping[str, FileEntry]) -> Iterator[tuple[str, int]]:
    """Yield folders, the largest first; none that is little more than one of its own."""
    sizes: defaultdict[str, int] = defaultdict(int)
    for path, file in files.items():
        for folder in _above(path):
            sizes[folder] += file.own_size
    largest: defaultdict[str, int] = defaultdict(int)
    for folder, size in sizes.items():
        above = folder.rpartition("/")[0]
        largest[above] = max(largest[above], size)
    for folder, size in sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0])):
        if size and largest[folder] < _MOSTLY * size:
            yield folder, size


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    for depth in range(2, min(len(parts), _DEEPEST + 1) + 1):
        yield "/".join(parts[:depth])


def _packages(files: Mapping[str, FileEntry]) -> Iterator[tuple[str, int]]:
    """Yield packages of Python and of dpkg with the bytes of their files, the largest first."""
    found: dict[str, int] = {}
    for path, file in files.items():
        if file.content is None or not is_package_list(path):
            continue
        text = file.content.decode(errors="replace")
        folder, _, name = path.rpartition("/")
        if name == "RECORD":
            root, _, info = folder.rpartition("/")
            paths = {_joined(root, line.split(",", 1)[0].strip('"')) for line in text.splitlines()}
            package = info.removesuffix(".dist-info").replace("-", " ", 1)
        else:
            paths = {line.strip() for line in text.splitlines()}
            package = f"{name.removesuffix('.list').partition(':')[0]} (dpkg)"
        found[package] = sum(files[each].own_size for each in paths if each in files)
    yield from sorted(((name, size) for name, size in found.items() if size), key=lambda entry: (-entry[1], entry[0]))


def _joined(root: str, path: str) -> str:
    parts = [part for part in root.split("/") if part] if not path.startswith("/") else []
    for part in path.strip("/").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return f"/{'/'.join(parts)}"
