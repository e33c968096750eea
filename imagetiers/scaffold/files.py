"""Files that are written where none is: all of them, or none."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagetiers.errors import OutputError, Problem, os_problem

__all__ = ["NewFile", "write_new"]

_SHOWN = 5  # files in a message
_MAY_BE_THERE = (".gitignore", ".imagetiers/pipeline.schema.json")


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be written, by its path from the folder. Scripts (`#!`) are executable: that is part of an image's key."""

    path: str
    data: bytes

    @property
    def mode(self) -> int:
        """The file's mode."""
        return 0o755 if self.data.startswith(b"#!") else 0o644


def write_new(root: Path, files: Sequence[NewFile]) -> tuple[str, ...]:
    """Write files that are not there, and return their paths; a .gitignore that is there stays as it is.

    Raises OutputError when one is there, and then writes none; and when the system refuses one.
    """
    wanted = [file for file in files if file.path not in _MAY_BE_THERE or not _is_there(root / file.path)]
    there = [file.path for file in wanted if _is_there(root / file.path)]
    if there:
        more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        what = f"{', '.join(there[:_SHOWN])}{more}: already there, so nothing was written"
        raise OutputError(Problem("", what, "nothing is ever overwritten: go to another folder, or move them away"))
    made: list[Path] = []
    try:
        for file in wanted:
            _write(root / file.path, file, made)
    except OSError as error:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise OutputError(os_problem(error)) from error
    return tuple(file.path for file in wanted)


def _write(target: Path, file: NewFile, made: list[Path]) -> None:
    """Write one file and the folders above it; `made` gets what was not there."""
    for folder in reversed(target.parents):
        if not folder.exists():
            folder.mkdir()
            made.append(folder)
    with target.open("xb") as out:
        made.append(target)
        out.write(file.data)
    target.chmod(file.mode)


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()
