"""Whether what an image has compiled against a PyTorch finds in the image's PyTorch what it was compiled against. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from imagetiers.layers.model import FileEntry

__all__ = ["foreign_extensions"]


def foreign_extensions(files: Iterable[FileEntry]) -> Iterator[str]:
    """Say of each library which C++ names of PyTorch no library of the image defines, so that it cannot be loaded."""
    known = [(entry, entry.torch) for entry in files if entry.torch is not None]
    defined = frozenset().union(*(symbols.defined for _, symbols in known))
    for entry, symbols in known:
        missing = sorted(symbols.wanted - defined)
        if missing:
            more = f", and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            name = missing[0].decode(errors="replace")
            yield f"{entry.path} was compiled against another PyTorch: this one has no {name}{more}"
