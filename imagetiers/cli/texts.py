"""What `imagetiers` says of what it has done."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["said"]


def said(written: Sequence[str]) -> list[str]:
    """Return what is said of the files that were written."""
    lines = [f"{path} written" for path in written if not path.startswith(".imagetiers/")]
    return lines if ".gitignore" in written else [*lines, "add .imagetiers/ to .gitignore, which stays as it is"]
