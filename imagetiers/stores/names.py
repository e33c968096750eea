"""Which object names are allowed, the same in every store, and how a name becomes a path in a directory.

A name is one or more components joined by '/'. Components are neither empty, '.' nor '..', and hold no control
characters, no backslash and no line or paragraph separators. Sizes are bounded, so that a name that is valid in one
store is valid in all: GCS allows 1,024 bytes (the store's prefix included), Linux 255 bytes a file name.
"""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

from imagetiers.errors import Problem, StoreError

__all__ = ["MAX_COMPONENT_BYTES", "MAX_NAME_BYTES", "check_name", "is_name", "name_to_path", "path_to_component"]

MAX_NAME_BYTES = 768
MAX_COMPONENT_BYTES = 240  # as escaped for a directory, see name_to_path

# A folder is the component plus this mark, a file is the component as it is; so the objects `a` and `a/b` live side by
# side as the file `a` and the folder `a@`. The mark itself is escaped in components.
_FOLDER_MARK = "@"
_SHOWN = 80


def check_name(name: str) -> None:
    """Raise StoreError unless `name` is a valid object name (see the module's text)."""
    reason = _why_invalid(name)
    if reason:
        shown = ascii(name) if len(name) <= _SHOWN else ascii(name[:_SHOWN]) + "..."
        raise StoreError(Problem(shown, f"not a valid object name: {reason}", "is the cache's index damaged?"))


def is_name(name: str) -> bool:
    """Say whether `name` is a valid object name."""
    return not _why_invalid(name)


def name_to_path(name: str) -> PurePosixPath:
    """Say where the object lies, relative to the folder of all objects. The name must be valid."""
    *folders, last = (_escape(component) for component in name.split("/"))
    return PurePosixPath(*(folder + _FOLDER_MARK for folder in folders), last)


def path_to_component(file_name: str) -> tuple[str, bool] | None:
    """Undo `name_to_path` for one component: (component, is it a folder), or None for a file that is not ours."""
    is_folder = file_name.endswith(_FOLDER_MARK)
    escaped = file_name.removesuffix(_FOLDER_MARK) if is_folder else file_name
    component = escaped.replace("%40", "@").replace("%2E", ".").replace("%25", "%")
    if _why_invalid(component) or "/" in component or _escape(component) != escaped:
        return None
    return component, is_folder


def _escape(component: str) -> str:
    escaped = component.replace("%", "%25").replace(_FOLDER_MARK, "%40")
    # A leading dot is what editors, NFS and macOS give to files of their own: those are never taken for objects.
    return "%2E" + escaped[1:] if escaped.startswith(".") else escaped


def _why_invalid(name: str) -> str:  # noqa: PLR0911  one return a rule
    """Return the reason, or an empty string for a valid name."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "not valid Unicode"
    if size > MAX_NAME_BYTES:
        return f"{size} bytes long, at most {MAX_NAME_BYTES} are allowed"
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in name):
        return "holds a control character"
    if "\\" in name:
        return "holds a backslash"
    for component in name.split("/"):
        if component in ("", ".", ".."):
            return f"holds the component {component!r}"
        if len(_escape(component).encode()) > MAX_COMPONENT_BYTES:
            return f"a component is longer than {MAX_COMPONENT_BYTES} bytes"
    return ""
