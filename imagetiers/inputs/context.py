"""The build context as a tar, made of the bytes that were hashed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

from imagetiers.config.layout import DOCKERFILE
from imagetiers.inputs.files import InputFile, input_file

__all__ = ["archive", "context_tar"]

# tar, like every layer format, keeps times; all ours are the first moment that zip (and so wheels) can express.
EPOCH = 315_532_800  # 1980-01-01T00:00:00Z, seconds


def context_tar(files: Iterable[InputFile], dockerfile: bytes) -> bytes:
    """Return the build context as a tar: the files and the Dockerfile."""
    return archive([input_file(DOCKERFILE, dockerfile), *files])


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
                info.linkname = file.held.decode()
                tar.addfile(info)
            else:
                info.size = file.size
                tar.addfile(info, io.BytesIO(file.held))
    return buffer.getvalue()
