"""What compiles have made: a folder by compile key, all of it or none, and the same as one object in the cache.

Wheels are what most of them make. `patterns` that mean anything else let `outputs` keep what they mean.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.config.model import ONLY_WHEELS, Trust
from imagetiers.documents import parse_object
from imagetiers.errors import BuildError, CorruptError, NotFoundError, PreconditionError, Problem, StoreError
from imagetiers.planning.commands import CALL_LOG, JOB_LOG, STATS_LOG
from imagetiers.session import Session
from imagetiers.state import outputs
from imagetiers.state.archives import ArchiveLimits, ArchiveReader, Member, MemberKind
from imagetiers.state.wheels_whole import (
    MAX_LIST_BYTES,
    OUTPUTS,
    OUTPUTS_LIST,
    WHEELS_LIST,
    file_sha256,
    mark_whole,
    what_is_wrong,
)

__all__ = ["BEGAN", "WHEELS_LIST", "begin", "commit", "forget", "have", "publish", "restore", "result"]

BEGAN = ".began"  # its time is the compile's beginning: entries used since then are the working set
OURS = frozenset(
    {WHEELS_LIST, BEGAN, STATS_LOG, CALL_LOG, JOB_LOG}
)  # what a partial folder holds beside what the compile has left
MAX_WHEELS = 64
_SHOWN = 8
MAX_WHEEL_BYTES = 8 << 30
_WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,239}\.whl")


def have(layout: Layout, key: str) -> bool:
    """Say whether the wheels of that compile key are here, all of them, as they were made. Raises OSError."""
    return what_is_wrong(layout, key) is None


def object_name(key: str, trust: Trust) -> str:
    """Return the name under which the cache keeps the wheels of a compile key."""
    return f"{trust.prefix}wheels/{key}.tar"


def result(layout: Layout, key: str, patterns: tuple[str, ...] = ONLY_WHEELS) -> Path:
    """Return the folder that stands in for a stage: that of the wheels, or of the other outputs."""
    return layout.wheels(key) if patterns == ONLY_WHEELS else layout.wheels(key) / OUTPUTS


def begin(layout: Layout, key: str, patterns: tuple[str, ...] = ONLY_WHEELS) -> tuple[Path, Path]:
    """Make the folder of a compile that begins; return it, and where in it the compile leaves what it makes."""
    partial = layout.partial_wheels(key)
    shutil.rmtree(partial, ignore_errors=True)
    made = partial if patterns == ONLY_WHEELS else partial / OUTPUTS
    made.mkdir(parents=True)
    (partial / BEGAN).touch()
    return partial, made


def commit(layout: Layout, key: str, task: str, patterns: tuple[str, ...] = ONLY_WHEELS) -> tuple[str, ...]:
    """Turn what a compile has left in its partial folder into what is finished; return what else there was.

    Of wheels only files called *.whl that are not empty are taken; what else there was is removed, and returned: `NAME (what
    it is)`. Raises BuildError when there is no wheel, or an empty one, or when outputs cannot be kept; then nothing is removed.
    """
    partial = layout.partial_wheels(key)
    if patterns == ONLY_WHEELS:
        others, name, listed = _take_wheels(partial, task)
    else:
        others, name = outputs.commit(partial, patterns, task), OUTPUTS_LIST
        _remove_all_but(partial, {OUTPUTS})
        listed = outputs.listed(partial)
    _write_last(partial / name, listed)
    final = layout.wheels(key)
    if final.exists():  # incomplete, or `have` had said so
        shutil.rmtree(final)
    partial.rename(final)
    mark_whole(layout, key)
    return others


def _take_wheels(partial: Path, task: str) -> tuple[tuple[str, ...], str, str]:
    """Leave nothing but wheels in a compile's folder; return what else there was, and the list with its name."""
    left = sorted(path for path in partial.iterdir() if path.name not in OURS)
    found = [path for path in left if path.suffix == ".whl" and path.is_file() and not path.is_symlink()]
    others = tuple(f"{path.name} ({_kind(path)})" for path in left if path not in found)
    empty = [path.name for path in found if not path.stat().st_size]
    if empty:
        raise BuildError(Problem(task, f"left wheels of 0 bytes in /wheels: {_some(empty)}", f"they are in {partial}"))
    if not found:
        what = "the compile step ended well, but left no wheel in /wheels"
        what += f", only {_some(others)}" if others else ", which is empty"
        hint = f"it is in {partial}" if others else "let compile.run write *.whl files to $WHEELS_DIR"
        raise BuildError(Problem(task, what, hint))
    _remove_all_but(partial, {path.name for path in found})
    listed = {path.name: file_sha256(path) for path in found}
    return others, WHEELS_LIST, json.dumps(listed, indent=1, sort_keys=True)


def _remove_all_but(partial: Path, kept: set[str]) -> None:
    for path in partial.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _kind(path: Path) -> str:
    """Say why what a compile left is no wheel."""
    if path.is_symlink():
        return "a link"
    return "a folder" if path.is_dir() else "not *.whl" if path.is_file() else "not a file"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def forget(layout: Layout, key: str) -> bool:
    """Remove the finished wheels of a compile key from this machine; say whether there were any."""
    there = layout.wheels(key).exists()
    shutil.rmtree(layout.wheels(key), ignore_errors=True)
    return there


def publish(session: Session, key: str) -> None:
    """Put the finished wheels into the cache, create-only. Raises StoreError; somebody else's are as good as ours."""
    folder = session.layout.wheels(key)
    archive = _scratch(session.layout, key)
    try:
        with tarfile.open(archive, "w") as tar:
            if (folder / OUTPUTS_LIST).exists():
                outputs.pack(folder, tar)
            else:
                for path in sorted(folder.iterdir()):
                    tar.add(path, arcname=path.name)
        session.services.store.write_file(object_name(key, session.trust), archive, if_generation=0)
    except PreconditionError:
        pass
    except OSError as error:
        raise StoreError(Problem(str(archive), f"cannot be written: {error.strerror}", "is the disk full?")) from error
    finally:
        archive.unlink(missing_ok=True)


def restore(session: Session, key: str, patterns: tuple[str, ...] = ONLY_WHEELS) -> bool:
    """Fetch what a compile key has made from the cache; say whether it had that.

    What comes back is checked against its own list before it gets its final name; a bad one counts as none.
    """
    archive = _scratch(session.layout, key)
    unpacked = archive.with_suffix(".unpacked")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        try:
            session.services.store.read_file(object_name(key, Trust()), archive)
        except (NotFoundError, CorruptError) as error:
            if session.trust.trusted:
                raise
            if isinstance(error, CorruptError):
                session.services.console.line(
                    f"wheels {key[:12]} of trusted builds cannot be taken, so this branch's are: {error}"
                )
            session.services.store.read_file(object_name(key, session.trust), archive)
        _unpack(archive, unpacked, patterns)
        if session.layout.wheels(key).exists():
            shutil.rmtree(session.layout.wheels(key))
        unpacked.rename(session.layout.wheels(key))
        mark_whole(session.layout, key)
    except NotFoundError:
        return False
    except (StoreError, OSError) as error:
        session.services.console.line(
            f"wheels {key[:12]} cannot be taken from the cache, so they are compiled: {error}"
        )
        return False
    finally:
        archive.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)
    return True


def _scratch(layout: Layout, key: str) -> Path:
    """Return where this process packs and unpacks the wheels of a key; what killed ones have left there is removed."""
    final = layout.wheels(key)
    for left in final.parent.glob(f".{key}.*"):
        owner = left.name.removeprefix(f".{key}.").partition(".")[0]
        if owner.isdecimal() and not _is_alive(int(owner)):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink(missing_ok=True)
    return final.with_name(f".{key}.{os.getpid()}.tar")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True


def _unpack(archive: Path, folder: Path, patterns: tuple[str, ...] = ONLY_WHEELS) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if patterns != ONLY_WHEELS:
        outputs.unpack(archive, folder, patterns)
        return
    with ArchiveReader(archive, ArchiveLimits(MAX_WHEELS + 1, MAX_WHEEL_BYTES)) as reader:
        found = reader.unpack(folder, lambda member: None if _belongs(member) else "is nothing that a wheelhouse holds")
        listed = parse_object((folder / WHEELS_LIST).read_bytes()) if WHEELS_LIST in found else None
        if not listed or listed != {path: member.sha256 for path, member in found.items() if path != WHEELS_LIST}:
            raise reader.refused("the wheels do not match their list")
    for path in found:
        (folder / path).chmod(0o644)


def _belongs(member: Member) -> bool:
    """Say whether a member is a wheel or the list of them."""
    if member.path == WHEELS_LIST:
        return member.kind is MemberKind.FILE and member.size <= MAX_LIST_BYTES
    return member.kind is MemberKind.FILE and member.size > 0 and _WHEEL.fullmatch(member.path) is not None


def _write_last(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
