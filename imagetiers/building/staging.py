"""Folders that are named contexts, on their way to BuildKit: the bytes that were hashed, and nothing else.

BuildKit's client reads a folder itself, whenever it comes to it. What it gets is therefore a copy with what the key says: these
files, modes without a umask, and times that are always the same.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.errors import BuildError, Problem
from imagetiers.inputs.context import EPOCH
from imagetiers.inputs.files import InputFile
from imagetiers.planning.plan import TakenFolder

__all__ = ["staged"]


@contextmanager
def staged(layout: Layout, key: str, folders: tuple[TakenFolder, ...], task: str) -> Iterator[dict[str, Path]]:
    """Lay out the files of each folder, and take them away again; yield where they are, by the names that BuildKit gets.

    The caller holds the lock of what is built of `key`. Raises BuildError where there is no room for them, PipelineError where
    a file is not as it was hashed.
    """
    place = layout.contexts(key)
    try:
        shutil.rmtree(place, ignore_errors=True)  # what a killed build has left
        try:
            for folder in folders:
                _lay_out(place / folder.sent_as, folder.files)
        except OSError as error:
            what = f"what it takes from folders cannot be laid out in {place}: {error.strerror}"
            raise BuildError(Problem(task, what, "make room there")) from error
        yield {folder.sent_as: place / folder.sent_as for folder in folders}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _lay_out(folder: Path, files: tuple[InputFile, ...]) -> None:
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            path.symlink_to(file.target)
        else:
            with path.open("xb") as target:
                target.writelines(file.pieces())
            path.chmod(0o755 if file.executable else 0o644)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    for inside, _, _ in os.walk(folder, topdown=False):
        Path(inside).chmod(0o755)  # as in any context: whoever runs in the image reads it
        os.utime(inside, (EPOCH, EPOCH))
