"""Users and groups of an image, from its own files. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from imagetiers.layers.tree import FileTree

__all__ = ["accounts", "file_text"]


def file_text(tree: FileTree, path: str) -> str:
    """Return the text of a small file that was kept; "" where there is none."""
    entry = tree.find(path)
    return entry.content.decode(errors="replace") if entry is not None and entry.content else ""


def accounts(text: str) -> Mapping[str, int]:
    """Return the numbers by name of /etc/passwd or /etc/group. The first line of a name counts, as it does for libc."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():  # noqa: PLR2004
            found.setdefault(fields[0], int(fields[2]))
    return found
