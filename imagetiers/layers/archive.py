"""An image as `docker save` writes it: layers and documents in any order, and a manifest that says which is which."""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from imagetiers.layers.aside import Aside
from imagetiers.layers.image_config import ImageConfig, read_image_config
from imagetiers.layers.model import FileLayer, LayerError, ReadOptions
from imagetiers.layers.read import TAR_BUFFER, Chunks, is_compressed, read_layer
from imagetiers.layers.tree import FileTree, merge

__all__ = ["ImageFiles", "SavedImage", "has_compressed_layers", "is_oci_layout", "read_images", "read_saved"]

_MANIFEST = "manifest.json"
_SMALL = 8 << 20  # bytes: what is larger is no document
_MOST_MEMBERS = 10_000
_BY_DIGEST = "blobs/sha256/"
_REMEMBERED = 200  # layers

_read_before: dict[str, tuple[ReadOptions, FileLayer]] = {}
"""Layers by their digest: a tier's image begins with its parent's layers, which were read a moment before."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An image: how it is run, its layers, the first one first, and the file system that they come to."""

    config: ImageConfig
    layers: tuple[FileLayer, ...]
    tree: FileTree


@dataclass(frozen=True, slots=True)
class SavedImage:
    """An image of an archive, whose layers are read when they are asked for, if they were not. It was asked for by `tags`."""

    tags: tuple[str, ...]
    config: ImageConfig
    names: tuple[str, ...]
    archive: _Members

    def files(self) -> ImageFiles:
        """Put its layers together. Raises LayerError for what is no file system, or cannot be read."""
        layers = tuple(self.archive.layer(name) for name in self.names)
        return ImageFiles(self.config, layers, merge(layers))


def is_oci_layout(archive: Path) -> bool:
    """Say whether an archive has OCI's image layout. Raises OSError."""
    with tarfile.open(archive, "r:") as tar:
        return any(member.name == "oci-layout" for member in tar)


def has_compressed_layers(archive: Path) -> bool:
    """Say whether an archive has OCI's image layout with layers that are compressed, as containerd's image store keeps them.

    What is no archive has none. Raises OSError.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            blobs = [member for member in tar if member.isreg() and member.name.startswith(_BY_DIGEST)]
            heads = [file.read(4) for blob in blobs if (file := tar.extractfile(blob)) is not None]
    except tarfile.TarError:
        return False
    return any(map(is_compressed, heads))


def read_saved(pieces: Iterator[bytes], wanted: ReadOptions) -> ImageFiles:
    """Read an archive of one image once, from beginning to end. Raises LayerError when it is none, or ends early."""
    images = read_images(pieces, wanted)
    if len(images) != 1:
        raise LayerError("the archive's manifest does not name one image")
    return images[0].files()


def read_images(
    pieces: Iterator[bytes], wanted: ReadOptions, first: Collection[str] | None = None, later: Path | None = None
) -> list[SavedImage]:
    """Read an archive of images once, from beginning to end. Raises LayerError when it is none, or ends early.

    Of the layers only those with these digests are read at once, if any are given; the others' bytes wait in a file without a
    name in the folder `later`. Raises OSError when that cannot be written.
    """
    members = _Members(
        wanted, None if first is None else {f"{_BY_DIGEST}{each.partition(':')[2]}" for each in first}, later
    )
    try:
        with tarfile.open(fileobj=io.BufferedReader(Chunks(pieces), 1 << 20), mode="r|", bufsize=TAR_BUFFER) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # which would be kept to the end
                members.take(tar, member)
    except tarfile.TarError as error:
        raise LayerError(f"the image's archive cannot be read: {error}") from error
    return members.images()


@dataclass
class _Members:
    """The members of an archive, by name: documents, layers (or why one is none), and links to layers.

    Layers that are not among `first` are put aside in the folder `later`: `waiting` says where they are there.
    """

    wanted: ReadOptions
    first: Collection[str] | None = None
    later: Path | None = None
    waiting: dict[str, tuple[int, int]] = field(default_factory=dict)
    aside: Aside | None = None
    documents: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, FileLayer | LayerError] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Read a member."""
        name = posixpath.normpath(member.name)
        if len(self.layers) + len(self.documents) > _MOST_MEMBERS:
            raise LayerError(f"the archive has more than {_MOST_MEMBERS:,} members")
        if member.issym():
            self.links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        file = tar.extractfile(member) if member.isreg() else None
        if file is None:
            return
        if member.size <= _SMALL:
            data = file.read()
            try:
                self.documents[name] = json.loads(data)
            except (ValueError, RecursionError):
                self.layers[name] = self._layer(io.BytesIO(data))
        elif self.first is None or name in self.first:
            self.layers[name] = self._remembered(name, file)
        else:
            self.aside = self.aside or Aside(self.later)
            self.waiting[name] = self.aside.put(file)

    def _remembered(self, name: str, file: IO[bytes]) -> FileLayer | LayerError:
        """Return a layer that was read in this process, or read it."""
        before = _read_before.get(name)
        if before is not None and before[0].covers(self.wanted):
            return before[1]
        layer = self._layer(file)
        if name.startswith(_BY_DIGEST) and isinstance(layer, FileLayer):
            _read_before[name] = self.wanted, layer
            while len(_read_before) > _REMEMBERED:
                _read_before.pop(next(iter(_read_before)), None)
        return layer

    def _layer(self, file: IO[bytes]) -> FileLayer | LayerError:
        try:
            return read_layer(file, self.wanted)
        except LayerError as error:  # of an old archive's other small files, nobody asks
            return error

    def layer(self, name: str) -> FileLayer:
        """Return a layer, also one that waits to be read. Raises LayerError for what is none."""
        real = self.links.get(name, name)
        if real in self.waiting and real not in self.layers:
            assert self.aside is not None  # noqa: S101  what waits, waits there
            waiting = Chunks(self.aside.pieces(*self.waiting[real]))
            self.layers[real] = self._remembered(real, io.BufferedReader(waiting, 1 << 20))
        layer = self.layers.get(real)
        if layer is None:
            raise LayerError(f"the archive lacks the layer {name}")
        if isinstance(layer, LayerError):
            raise layer
        return layer

    def images(self) -> list[SavedImage]:
        """Return what the manifest lists. Raises LayerError where it, or the archive, is not as it should be."""
        listed = self.documents.get(_MANIFEST)
        if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
            raise LayerError("the archive's manifest names no image")
        found = []
        for each in listed:
            names, config = each.get("Layers"), self.documents.get(str(each.get("Config")))
            if not isinstance(names, list) or not isinstance(config, dict):
                raise LayerError("the archive's manifest names no layers, or no configuration")
            tags = tuple(map(str, each.get("RepoTags") or ()))
            found.append(SavedImage(tags, read_image_config(config), tuple(map(str, names)), self))
        return found
