"""What lies in this checkout's `.imagetiers/` and could be had again, as items for `gc` and `cache:gc`, and its removal."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.planning.housekeeping import Item

__all__ = ["held_locks", "local_items", "needed_here", "remove"]

_REMOVED = ".removed-"
UNTRUSTED = "untrusted"
"""The folder of `work` in which builds of untrusted branches keep what is theirs."""

MARKS = ("verdicts", "wheels", "signed", "plans")
"""The folders of `state` whose files are of use for a time, and could be done without."""

LEFT = ("folders", "contexts", "made")
"""The folders of `work` in which something lies only while it is built."""


def local_items(layout: Layout, *, ccache: bool = True) -> list[Item]:
    """Return what lies here, by path below `work`, with what builds of untrusted branches keep apart in a trusted one's.

    Wheels, what killed builds left of compiles, contexts and archives, ccache directories, logs and marks; and each branch's
    folder as a whole, which goes when nothing in it was used for long. Without `ccache`, what has thousands of files is left
    out: its directories and branches.
    """
    items = list(_items(layout, layout.work, ccache=ccache))
    for branch in _branches(layout) if ccache else ():
        inside = list(_items(branch, layout.work))
        whole = _folder(branch.work, "branches here", layout.work)
        items += [replace(whole, size=whole.size - sum(item.size for item in inside)), *inside]
    return items


def _branches(layout: Layout) -> Iterator[Layout]:
    """Yield the layouts of untrusted branches whose builds ran in this checkout. A link leads to what is none of theirs."""
    for path in _inside(layout.work / UNTRUSTED):
        if path.is_dir() and not path.is_symlink():
            yield replace(layout, apart=f"{layout.apart}{UNTRUSTED}/{path.name}/")


def _items(layout: Layout, root: Path, *, ccache: bool = True) -> Iterator[Item]:
    for path in _inside(layout.work / "wheels"):
        yield _folder(path, "left over" if path.name.startswith(".") else "wheels here", root)
    for name in LEFT:
        for path in _inside(layout.work / name):
            yield _folder(path, "left over", root)
    for path in _inside(layout.work / "ccache") if ccache else ():
        yield _folder(path, "ccache here", root)
    for folder in _inside(layout.work / "logs"):
        for path in _inside(folder):
            yield _file(path, "logs here", root)
    for name in MARKS:
        for path in _inside(layout.state / name):
            yield _file(path, "marks here", root)


def held_locks(layout: Layout, held: Callable[[Path], frozenset[str]]) -> frozenset[str]:
    """Return the names of the locks that builds in this checkout hold, those of untrusted branches included."""
    return held(layout.locks).union(*(held(branch.locks) for branch in _branches(layout)))


def needed_here(
    layout: Layout, items: list[Item], keys: frozenset[str], held: Callable[[Path], frozenset[str]]
) -> set[str]:
    """Return the names of items that belong to these keys, or that the holders of locks (by folder) may be using.

    A lock does not say which ccache directory a compile uses, so all of them stay while any compiles; nor which key the
    files of a tier have, so what may be left over stays while any are made.
    """
    locks = {layout.apart: held(layout.locks)} | {branch.apart: held(branch.locks) for branch in _branches(layout)}
    needed = set()
    for item in items:
        name = item.name.rpartition("/")[2]
        parts = item.name.split("/")
        apart = f"{layout.apart}{UNTRUSTED}/{parts[1]}/" if parts[0] == UNTRUSTED else layout.apart
        names = locks.get(apart, frozenset())
        busy = {name.partition("-")[2] for name in names if "-" in name}  # compile-KEY, image-KEY and the like
        if item.kind == "branches here":
            wanted = bool(names)
        elif item.kind == "ccache here":
            wanted = any(name.startswith("compile-") for name in names)
        elif item.kind == "left over":
            wanted = any(key in name for key in busy) or any(name.startswith("output-") for name in names)
        else:
            wanted = name in keys | busy
        if wanted:
            needed.add(item.name)
    return needed


def remove(layout: Layout, item: Item) -> None:
    """Remove it: first out of sight in one step, so that nobody ever finds half of it. Raises OSError."""
    path = layout.work / item.name
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f"{_REMOVED}{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
            shutil.rmtree(aside)
    else:
        path.unlink(missing_ok=True)


def _inside(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from sorted(folder.iterdir())


def _file(path: Path, kind: str, root: Path) -> Item:
    size, used = _measure(path)
    return Item(str(path.relative_to(root)), kind, size, used, group=str(path.parent.relative_to(root)))


def _folder(path: Path, kind: str, root: Path) -> Item:
    """Measure a folder. It was last used when anything in it was last written: ccache bumps an entry with each hit."""
    size, used = _measure(path)
    if path.is_dir() and not path.is_symlink():
        for above, _, names in os.walk(path):
            for name in names:
                more, at = _measure(Path(above, name))
                size, used = size + more, max(used, at)
    return Item(str(path.relative_to(root)), kind, size, used)


def _measure(path: Path) -> tuple[int, float]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0, 0.0
    return (0 if path.is_dir() and not path.is_symlink() else status.st_size), status.st_mtime
