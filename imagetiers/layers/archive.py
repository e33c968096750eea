"""An image as `docker save` writes it: layers and documents in any order, and a manifest that says which is which."""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from imagetiers.layers.image_config import ImageConfig, read_image_config
from imagetiers.layers.model import FileLayer, LayerError, ReadOptions
from imagetiers.layers.read import Chunks, read_layer
from imagetiers.layers.tree import FileTree, merge

__all__ = ["ImageFiles", "SavedImage", "is_oci_layout", "read_images", "read_saved"]

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
    """An image of an archive, whose layers have been read and not yet been put together. It was asked for by `tags`."""

    tags: tuple[str, ...]
    config: ImageConfig
    layers: tuple[FileLayer, ...]

    def files(self) -> ImageFiles:
        """Put them together. Raises LayerError for what is no file system."""
        return ImageFiles(self.config, self.layers, merge(self.layers))


def is_oci_layout(archive: Path) -> bool:
    """Say whether an archive has OCI's image layout. Raises OSError."""
    with tarfile.open(archive, "r:") as tar:
        return any(member.name == "oci-layout" for member in tar)


def read_saved(pieces: Iterator[bytes], wanted: ReadOptions) -> ImageFiles:
    """Read an archive of one image once, from beginning to end. Raises LayerError when it is none, or ends early."""
    images = read_images(pieces, wanted)
    if len(images) != 1:
        raise LayerError("the archive's manifest does not name one image")
    return images[0].files()


def read_images(pieces: Iterator[bytes], wanted: ReadOptions) -> list[SavedImage]:
    """Read an archive of images once, from beginning to end. Raises LayerError when it is none, or ends early."""
    members = _Members(wanted)
    try:
        with tarfile.open(fileobj=io.BufferedReader(Chunks(pieces), 1 << 20), mode="r|") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # which would be kept to the end
                members.take(tar, member)
    except tarfile.TarError as error:
        raise LayerError(f"the image's archive cannot be read: {error}") from error
    return _images(members.documents, members.layers, members.links)


@dataclass
class _Members:
    """The members of an archive, by name: documents, layers (or why one is none), and links to layers."""

    wanted: ReadOptions
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
        else:
            self.layers[name] = self._remembered(name, file)

    def _remembered(self, name: str, file: IO[bytes]) -> FileLayer | LayerError:
        """Return a layer that was read in this process, or read it."""
        before = _read_before.get(name)
        if before is not None and before[0] | self.wanted == before[0]:
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


def _images(
    documents: dict[str, Any], layers: dict[str, FileLayer | LayerError], links: dict[str, str]
) -> list[SavedImage]:
    listed = documents.get(_MANIFEST)
    if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
        raise LayerError("the archive's manifest names no image")
    found = []
    for each in listed:
        names, config = each.get("Layers"), documents.get(str(each.get("Config")))
        if not isinstance(names, list) or not isinstance(config, dict):
            raise LayerError("the archive's manifest names no layers, or no configuration")
        own = tuple(_layer(layers.get(links.get(str(layer), str(layer))), str(layer)) for layer in names)
        found.append(SavedImage(tuple(map(str, each.get("RepoTags") or ())), read_image_config(config), own))
    return found


def _layer(layer: FileLayer | LayerError | None, name: str) -> FileLayer:
    if layer is None:
        raise LayerError(f"the archive lacks the layer {name}")
    if isinstance(layer, LayerError):
        raise layer
    return layer
