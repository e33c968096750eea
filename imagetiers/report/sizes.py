"""What an image weighs, as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imagetiers.planning.observed import Unknown
from imagetiers.planning.sizes import Duplicate, Made, Sizes
from imagetiers.report.amounts import size_text

__all__ = ["Earlier", "Pulled", "duplicate_line", "size_lines"]

_SHOWN = 10
_SMALL = 1e5  # bytes; smaller layers are summed up
_WIDTH = 70


@dataclass(frozen=True, slots=True)
class Earlier:
    """The image before: its name, its bytes unpacked, and how many layers the newer one has in common with it."""

    name: str
    size: int
    shared: int | None


@dataclass(frozen=True, slots=True)
class Pulled:
    """The bytes of each layer in the registry; `update` are those that somebody fetches who has the friendly tag's image."""

    layers: tuple[int, ...]
    update: int | None


def size_lines(
    sizes: Sizes, made: Sequence[Made], first_own: int, earlier: Earlier | Unknown | None, pulled: Pulled | None
) -> Iterator[str]:
    """Yield the total, then layers, folders, packages and what stands there twice, the largest first."""
    packed = pulled.layers if pulled is not None and len(pulled.layers) == len(sizes.layers) else None
    yield f"  {size_text(sizes.total)} in {len(sizes.layers)} layers, of which {size_text(sizes.visible)} are to be seen"
    if packed is not None:
        yield f"  a pull fetches {size_text(sum(packed))}"
    if pulled is not None and pulled.update is not None:
        yield f"  over the image of the friendly tag it fetches {size_text(pulled.update)}"
    yield from _compared(sizes, earlier)
    yield "  layers" + ("" if packed is None else ", unpacked and in the registry")
    small = 0
    for number, size in enumerate(sizes.layers):
        if size < _SMALL:
            small += size
            continue
        shown = made[number].instruction or "the base image"
        place = made[number].where or ("" if number >= first_own else "base")
        in_registry = "" if packed is None else f" {size_text(packed[number]):>8}"
        yield f"    {size_text(size):>8}{in_registry}  {place}  {_cut(shown)}".rstrip()
    if small:
        yield f"    {size_text(small):>8}  in layers below {size_text(int(_SMALL))}"
    for title, entries in (("folders", sizes.folders), ("packages", sizes.packages)):
        if entries:
            yield f"  {title}"
        for name, size in entries[:_SHOWN]:
            yield f"    {size_text(size):>8}  {name}"
    own = [duplicate for duplicate in sizes.duplicates if duplicate.layer >= first_own]
    yield f"  {size_text(sum(each.size for each in own))} stand there twice, by lines of this pipeline"
    for duplicate in own[:_SHOWN]:
        yield f"    {size_text(duplicate.size):>8}  {duplicate_line(duplicate, made)}"


def _compared(sizes: Sizes, earlier: Earlier | Unknown | None) -> Iterator[str]:
    if isinstance(earlier, Unknown):
        yield f"  by how much it has grown is not known: {earlier.reason}"
    elif earlier is not None:
        change = sizes.total - earlier.size
        shared = "" if earlier.shared is None else f", with which it shares {earlier.shared} layers"
        how = "larger" if change >= 0 else "smaller"
        yield f"  {size_text(abs(change))} {how} than {earlier.name}{shared}"


def duplicate_line(duplicate: Duplicate, made: Sequence[Made]) -> str:
    """Return what stands there twice, how, and by which line."""
    by = made[duplicate.layer].where or _cut(made[duplicate.layer].instruction) or "a layer of the base image"
    files = "1 file" if duplicate.files == 1 else f"{duplicate.files:,} files"
    return f"{duplicate.how.value}: {files}, such as {duplicate.path}, by {by}"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
