"""Folders of input files on this machine: the bytes that were hashed, with modes and times that are always the same."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from imagetiers.inputs.context import EPOCH
from imagetiers.inputs.files import InputFile

__all__ = ["keep_folders", "write_folder"]

_BEGUN = ".begun-"


def keep_folders(place: Path, wanted: Mapping[str, tuple[InputFile, ...]]) -> None:
    """Make `place` hold these folders, and no others; a folder is there whole or not at all.

    The caller holds a lock of `place`. Raises OSError, and PipelineError where a file is not as it was hashed.
    """
    place.mkdir(parents=True, exist_ok=True)
    for path in place.iterdir():
        if path.name not in wanted:
            shutil.rmtree(path)
    for name, files in wanted.items():
        if not _is_whole(place / name, files):
            _replace(place / name, files)


def _is_whole(folder: Path, files: tuple[InputFile, ...]) -> bool:
    """Say whether a folder is as it was written: whoever has changed a file of it has changed its time."""
    there = {
        str(path.relative_to(folder)): path.lstat()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    return there.keys() == {file.path for file in files} and all(
        _is_as_written(there[file.path], file) for file in files
    )


def _is_as_written(found: os.stat_result, file: InputFile) -> bool:
    if found.st_mtime != EPOCH or file.link:
        return found.st_mtime == EPOCH and stat.S_ISLNK(found.st_mode)
    return stat.S_ISREG(found.st_mode) and (found.st_size, stat.S_IMODE(found.st_mode)) == (file.size, _mode(file))


def _mode(file: InputFile) -> int:
    return 0o755 if file.executable else 0o644


def _replace(folder: Path, files: tuple[InputFile, ...]) -> None:
    begun = folder.with_name(f"{_BEGUN}{secrets.token_hex(4)}")
    write_folder(begun, files)
    shutil.rmtree(folder, ignore_errors=True)
    begun.rename(folder)


def write_folder(folder: Path, files: tuple[InputFile, ...]) -> None:
    """Write the files of a folder, which is not there yet. Raises OSError, and PipelineError as `InputFile.pieces` does."""
    folder.mkdir(parents=True)
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            path.symlink_to(file.target)
        else:
            with path.open("xb") as target:
                target.writelines(file.pieces())
            path.chmod(_mode(file))
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    for inside, _, _ in os.walk(folder, topdown=False):
        Path(inside).chmod(0o755)  # as in any context: whoever runs in the image reads it
        os.utime(inside, (EPOCH, EPOCH))
