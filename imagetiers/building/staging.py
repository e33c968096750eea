"""Folders that are named contexts, on their way to BuildKit: the bytes that were hashed, and nothing else.

BuildKit's client reads a folder itself, whenever it comes to it. What it gets is therefore a copy with what the key says: these
files, modes without a umask, and times that are always the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagetiers.building.folders import write_folder
from imagetiers.config.layout import Layout
from imagetiers.errors import BuildError, Problem
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
                write_folder(place / folder.sent_as, folder.files)
        except OSError as error:
            what = f"what it takes from folders cannot be laid out in {place}: {error.strerror}"
            raise BuildError(Problem(task, what, "make room there")) from error
        yield {folder.sent_as: place / folder.sent_as for folder in folders}
    finally:
        shutil.rmtree(place, ignore_errors=True)
