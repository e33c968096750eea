"""What tiers make that are no images: archives in the cache, by key, and what lies of them in the repository.

A mark says which key lies at a tier's `dest`, and what was put there, with sizes and times: so that what somebody has changed
is made anew, and what somebody has put there is never removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import filecmp
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.documents import parse_object
from imagetiers.errors import BuildError, NotFoundError, PreconditionError, Problem, StoreError
from imagetiers.planning import keys
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.state.archives import ArchiveLimits, ArchiveReader, LinkFault, MemberKind, link_fault

__all__ = ["clean", "export", "lines_of", "publish", "restore", "what_lies_there"]

MAX_ENTRIES = 50_000
MAX_BYTES = 16 << 30
_SHOWN = 3
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of renameat2(2)

Entries = Mapping[str, list[int]]
"""By path below `dest` ('' for itself): the file's kind and x-bit, its size, and when it was changed (ns)."""


def lines_of(layout: Layout, tier: TierPlan) -> tuple[str, ...]:
    """Say why a tier's files must be made or put in their place; nothing where they lie there as they were put."""
    output, mark = tier.config.output, _mark(layout, tier)
    assert output is not None  # noqa: S101  the caller has looked
    found = what_lies_there(layout.root / output.dest)
    if not found:
        return (f"{output.dest} is not there",)
    if mark.get("dest") != output.dest:
        return (f"{output.dest} was not written here",)
    if mark.get("type") != output.type:
        return (f"{output.dest} was written as {mark.get('type')}",)
    if mark.get("key") != tier.key:
        document = mark.get("document")
        changes = keys.diff(document, tier.key_document.content()) if isinstance(document, dict) else ()
        return tuple(str(change) for change in changes) or ("inputs changed",)
    put = mark.get("entries")
    put = put if isinstance(put, dict) else {}
    changed = min((path for path in {*put, *found} if put.get(path) != found.get(path)), default=None)
    return () if changed is None else (f"{output.dest}{'/' if changed else ''}{changed} was changed since",)


def what_lies_there(dest: Path) -> Entries:
    """Return what lies at a place; of folders what they hold. Raises OSError."""
    try:
        status = dest.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    if not stat.S_ISDIR(status.st_mode):
        return {"": _entry(status)}
    found: dict[str, list[int]] = {}
    for folder, folders, files in os.walk(dest):
        inside = os.path.relpath(folder, dest)
        for name in (*files, *(each for each in folders if Path(folder, each).is_symlink())):
            path = name if inside == "." else f"{inside}/{name}"
            found[path] = _entry(os.lstat(f"{folder}/{name}"))
    return found or {"": [stat.S_IFDIR, 0, 0]}


def _entry(status: os.stat_result) -> list[int]:
    return [stat.S_IFMT(status.st_mode) | status.st_mode & stat.S_IXUSR, status.st_size, status.st_mtime_ns]


def object_name(key: str, trust: Trust) -> str:
    """Return the name under which the cache keeps what was made of a key."""
    return f"{trust.prefix}made/{key}.tar"


def publish(session: Session, key: str, archive: Path) -> None:
    """Put an archive into the cache, create-only. Raises StoreError; somebody else's is as good as ours."""
    with contextlib.suppress(PreconditionError):
        session.services.store.write_file(object_name(key, session.trust), archive, if_generation=0)


def restore(session: Session, key: str, archive: Path) -> bool:
    """Fetch what was made of a key from the cache; say whether it had that."""
    for trust in dict.fromkeys((Trust(), session.trust)):
        try:
            session.services.store.read_file(object_name(key, trust), archive)
        except NotFoundError:
            continue
        except StoreError as error:
            session.services.console.line(f"output {key[:12]} cannot be taken from the cache, so it is made: {error}")
            return False
        else:
            return True
    return False


def export(layout: Layout, tier: TierPlan, archive: Path, task: str) -> None:
    """Put what an archive holds where the tier's files go, in place of what was put there before.

    The caller holds the tier's lock. Raises BuildError where something lies there that was not put there, where the place is
    not in the repository, and where nothing can be written; CorruptError where the archive holds what no output holds.
    """
    output = tier.config.output
    assert output is not None  # noqa: S101  the caller has looked
    dest = layout.root / output.dest
    new = dest.with_name(f".{dest.name}.imagetiers-new")
    try:
        _check_place(layout, dest, task)
        dest.parent.mkdir(parents=True, exist_ok=True)
        _remove(new)
        if output.type == "local":
            new.mkdir()
            _unpack(archive, new)
        else:
            shutil.copyfile(archive, new)
        mark = _mark(layout, tier)
        put = mark.get("entries") if mark.get("dest") == output.dest else None
        if not _same(new, dest):
            _check_foreign(dest, put if isinstance(put, dict) else {}, task, output.dest)
            _exchange(new, dest)
        document = tier.key_document.content()
        text = json.dumps(
            {
                "key": tier.key,
                "type": output.type,
                "dest": output.dest,
                "document": document,
                "entries": what_lies_there(dest),
            }
        )
        path = _mark_path(layout, tier)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(text, encoding="utf-8")
        path.with_suffix(".new").replace(path)
    except OSError as error:
        what = f"{output.dest} cannot be written: {error.strerror}"
        raise BuildError(Problem(task, what, "what was there before is still there")) from error
    finally:
        _remove(new)


def clean(layout: Layout, tier: TierPlan) -> None:
    """Remove what was put where the tier's files go, and nothing else. Raises OSError."""
    output, mark = tier.config.output, _mark(layout, tier)
    put = mark.get("entries")
    if output is None or mark.get("dest") != output.dest or not isinstance(put, dict):
        return
    dest = layout.root / output.dest
    for path in put:
        if path or not dest.is_dir():
            (dest / path).unlink(missing_ok=True)
    for folder, _, _ in os.walk(dest, topdown=False):
        with contextlib.suppress(OSError):  # something else lies in it
            Path(folder).rmdir()
    _mark_path(layout, tier).unlink(missing_ok=True)


def _mark_path(layout: Layout, tier: TierPlan) -> Path:
    return layout.state / "made" / f"{tier.name}.json"


def _mark(layout: Layout, tier: TierPlan) -> Mapping[str, Any]:
    try:
        return parse_object(_mark_path(layout, tier).read_bytes()) or {}
    except OSError:
        return {}


def _check_place(layout: Layout, dest: Path, task: str) -> None:
    root = layout.root.resolve()
    if dest.is_symlink() or not dest.parent.resolve().is_relative_to(root):
        what = f"{dest.relative_to(layout.root)} is a link, or lies behind one that leaves the repository"
        raise BuildError(Problem(task, what, "remove the link, or choose another dest"))


def _check_foreign(dest: Path, put: Entries, task: str, shown: str) -> None:
    """Refuse to replace what somebody else has put there."""
    empty = not dest.is_symlink() and dest.is_dir()
    foreign = sorted(path for path in what_lies_there(dest) if path not in put and (path or not empty))
    if foreign:
        names = ", ".join(f"{shown}/{path}" if path else shown for path in foreign[:_SHOWN])
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        what = f"{names}{more}: this lies where the tier's files go, and was not put there by it"
        raise BuildError(Problem(task, what, "move it away, or choose another dest"))


def _same(new: Path, dest: Path) -> bool:
    """Say whether there lies already what would be put there: a killed doit, or a mark that was lost."""
    theirs, ours = what_lies_there(dest), what_lies_there(new)
    if {path: entry[0] for path, entry in theirs.items()} != {path: entry[0] for path, entry in ours.items()}:
        return False
    return all(_alike(dest / path, new / path) for path in ours)


def _alike(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return one.is_dir() or filecmp.cmp(one, other, shallow=False)


def _exchange(new: Path, dest: Path) -> None:
    """Let `dest` be what `new` is, at once where the file system can; `new` is then what `dest` was, or gone."""
    if not dest.is_dir() and not new.is_dir():
        new.replace(dest)
        return
    if not dest.exists():
        new.rename(dest)
        return
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = (os.fsencode(new), os.fsencode(dest))
    if rename is not None and rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    old = dest.with_name(f".{dest.name}.imagetiers-old")
    _remove(old)
    dest.rename(old)
    new.rename(dest)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unpack(archive: Path, folder: Path) -> None:
    """Lay out an archive, which may be anybody's: files, folders, and links that stay within it."""
    with ArchiveReader(archive, ArchiveLimits(MAX_ENTRIES, MAX_BYTES)) as reader:
        found = reader.unpack(folder)
        kinds = {path: member.kind for path, member in found.items()}
        targets = {path: member.target for path, member in found.items() if member.kind is MemberKind.LINK}
        for path, target in targets.items():
            if link_fault(path, kinds, targets) in {LinkFault.LEAVES, LinkFault.ABSOLUTE}:
                what = f"the link {path[:80]!r} to {target[:80]!r} leaves the folder"
                raise reader.refused(what, "let it be relative, or copy the file")
    for path, member in found.items():
        if member.kind is MemberKind.FILE:
            (folder / path).chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)
            os.utime(folder / path, (member.mtime, member.mtime))
        elif member.kind is MemberKind.FOLDER:
            (folder / path).chmod(0o755)
