"""What lies in this checkout's `.imagetiers/` and could be had again, as items for `cache:gc`, and its removal."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.planning.housekeeping import Item

__all__ = ["local_items", "needed_here", "remove"]

_REMOVED = ".removed-"


def local_items(layout: Layout) -> list[Item]:
    """Return wheels, what compiles and fetches of them left, ccache directories, logs and marks, by path below `work`."""
    return [
        *(_folder(path, _wheels_kind(path), layout) for path in _inside(layout.work / "wheels")),
        *(_folder(path, "ccache here", layout) for path in _inside(layout.work / "ccache")),
        *(_file(path, "logs here", layout) for folder in _inside(layout.work / "logs") for path in _inside(folder)),
        *(_file(path, "marks here", layout) for path in _inside(layout.state / "verdicts")),
    ]


def needed_here(items: list[Item], keys: frozenset[str], held: frozenset[str]) -> set[str]:
    """Return the names of items that belong to these keys, or that the holders of these locks may be using.

    A lock does not tell which ccache directory a compile uses, so all of them stay while any compiles.
    """
    busy = {name.partition("-")[2] for name in held}
    compiling = any(name.startswith("compile-") for name in held)
    needed = set()
    for item in items:
        name = item.name.rpartition("/")[2]
        if item.kind == "ccache here":
            wanted = compiling
        elif item.kind == "left over":
            wanted = any(key in name for key in busy)
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


def _wheels_kind(path: Path) -> str:
    return "left over" if path.name.startswith(".") else "wheels here"


def _file(path: Path, kind: str, layout: Layout) -> Item:
    size, used = _measure(path)
    return Item(str(path.relative_to(layout.work)), kind, size, used, group=path.parent.name)


def _folder(path: Path, kind: str, layout: Layout) -> Item:
    """Measure a folder. It was last used when anything in it was last written: ccache bumps an entry with each hit."""
    size, used = _measure(path)
    if path.is_dir() and not path.is_symlink():
        for above, _, names in os.walk(path):
            for name in names:
                more, at = _measure(Path(above, name))
                size, used = size + more, max(used, at)
    return Item(str(path.relative_to(layout.work)), kind, size, used)


def _measure(path: Path) -> tuple[int, float]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0, 0.0
    return (0 if path.is_dir() and not path.is_symlink() else status.st_size), status.st_mtime
