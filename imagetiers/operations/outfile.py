"""Write a file that somebody named: whole or not at all where that can be, and as it is where the name is no plain file's."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from imagetiers.errors import OutputError, Problem, os_problem
from imagetiers.visible import visible_json

__all__ = ["write_json", "write_out"]

_OUR_OWN = ((1, "stdout"), (2, "stderr"))


def write_json(to: str, document: Mapping[str, object]) -> None:
    """Write a document where `--json TO` says, `-` being the standard output. Raises OutputError."""
    text = visible_json(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)) + "\n"
    write_out(Path("/dev/stdout" if to == "-" else to), text, f"--json {to}")


def write_out(to: Path, text: str, where: str) -> None:
    """Write `text` to a path, through links; `where` is what an error names. Raises OutputError.

    A plain file, or none yet, gets its new content by a rename, with the mode that it had. Devices, pipes and files with
    several names are written as they are, and so is one whose folder takes no new file. What our own standard output
    already goes to (`/dev/stdout`) is written through it, so that nothing is cut off.
    """
    try:
        for number, name in _OUR_OWN:
            if _is_open_as(to, number):
                stream = getattr(sys, name)
                stream.write(text)
                stream.flush()
                return
        _write(Path(os.path.realpath(to)) if to.is_symlink() and not _magic(to) else to, text)
    except OSError as error:
        problem = os_problem(error)
        raise OutputError(Problem(where, f"cannot be written: {problem.what}", problem.hint)) from error


def _is_open_as(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _magic(path: Path) -> bool:
    """Say whether the links of a path end in what only the kernel can follow, such as /dev/fd/3."""
    return str(path).startswith(("/dev/", "/proc/")) or os.path.realpath(path).startswith(("/dev/", "/proc/"))


def _write(target: Path, text: str) -> None:
    try:
        before = target.stat()
    except FileNotFoundError:
        before = None
    if before is not None and (not stat.S_ISREG(before.st_mode) or before.st_nlink > 1 or _magic(target)):
        _in_place(target, text)
        return
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}")
    try:
        file = temporary.open("x", encoding="utf-8")
    except PermissionError:
        if before is None:
            raise
        _in_place(target, text)
        return
    try:
        with file:
            if before is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _in_place(target: Path, text: str) -> None:
    with target.open("w", encoding="utf-8") as file:
        file.write(text)
