"""The build context as a tar, made of the bytes that were hashed, piece by piece."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator

from imagetiers.config.layout import DOCKERFILE
from imagetiers.dockerfile.context import Tree
from imagetiers.inputs.files import InputFile, input_file

__all__ = ["archive", "context_tar", "tree_of"]

# tar, like every layer format, keeps times; all ours are the first moment that zip (and so wheels) can express.
EPOCH = 315_532_800  # 1980-01-01T00:00:00Z, seconds


def context_tar(files: Iterable[InputFile], dockerfile: bytes) -> Iterator[bytes]:
    """Yield the build context as a tar: the files and the Dockerfile. Raises PipelineError as `InputFile.pieces` does."""
    return _tar([input_file(DOCKERFILE, dockerfile), *files])


def archive(files: Iterable[InputFile]) -> bytes:
    """Return small files as a tar."""
    return b"".join(_tar(files))


def _tar(files: Iterable[InputFile]) -> Iterator[bytes]:
    """Yield a tar that is a pure function of the files: sorted, without times, owners or umask."""
    written = 0
    for file in sorted(files, key=lambda file: file.path):
        info = tarfile.TarInfo(file.path)
        info.mtime = EPOCH
        info.mode = 0o755 if file.executable else 0o644
        if file.link:
            info.type = tarfile.SYMTYPE
            info.linkname = file.target
        else:
            info.size = file.size
        head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        yield head
        padding = -info.size % tarfile.BLOCKSIZE
        if not file.link:
            yield from file.pieces()
            yield bytes(padding)
        written += len(head) + info.size + padding
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(written + end) % tarfile.RECORDSIZE)


def tree_of(files: Iterable[InputFile]) -> Tree:
    """Return files as a build context to look paths up in."""
    return Tree({file.path: file.target if file.link else None for file in files})
