"""The cells of one tier's `matrix:`: which there are, what they are called, and what is wrong with them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from imagetiers.config.interpolation import MATRIX, REFERENCE, Value, text_of
from imagetiers.config.schema import cut
from imagetiers.config.yamltree import Node, Path
from imagetiers.suggestions import did_you_mean

__all__ = ["Cell", "Fault", "Matrix", "read_matrix"]

EXCLUDE = "exclude"
Fault = tuple[Path, str, str]
"""Where below `matrix`, what is wrong, and the cure."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One tier of a matrix: its name, the value on each axis, and its parent's name where that has cells, too."""

    name: str
    values: Mapping[str, Value]
    parent: str | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """What a tier's `matrix` says: the values on each axis, and those of cells that there are not."""

    axes: Mapping[str, tuple[Value, ...]]
    excluded: tuple[Mapping[str, Value], ...]

    @property
    def size(self) -> int:
        """How many cells it makes of one."""
        size = 1
        for values in self.axes.values():
            size *= len(values)
        return size

    def cells(self, name: str, above: tuple[Cell, ...]) -> tuple[Cell, ...]:
        """Return the cells of the tier `name` whose parent's are `above`."""
        return tuple(cell for cell in self._all(name, above) if not any(_matches(cell, one) for one in self.excluded))

    def _all(self, name: str, above: tuple[Cell, ...]) -> Iterator[Cell]:
        """Yield a cell for each of the parent's that has the values of the axes which both have, and each own value."""
        for up in above or (None,):
            inherited = up.values if up is not None else {}
            if any(axis in inherited and not _among(inherited[axis], self.axes[axis]) for axis in self.axes):
                continue
            own = [axis for axis in self.axes if axis not in inherited]
            for values in product(*(self.axes[axis] for axis in own)):
                whole = {**inherited, **dict(zip(own, values, strict=True))}
                yield Cell("-".join([name, *map(_slug, whole.values())]), whole, up.name if up is not None else None)

    def faults(self, name: str, above: tuple[Cell, ...]) -> Iterator[Fault]:
        """Yield what is wrong with it, as the matrix of a tier `name` whose parent has the cells `above`."""
        inherited = {axis: {cell.values[axis] for cell in above} for axis in (above[0].values if above else ())}
        yield from self._values(inherited)
        yield from self._exclusions(list(self._all(name, above)), {*self.axes, *inherited})
        cells = self.cells(name, above)
        if not cells:
            yield (), "no cell is left", "exclude fewer, or remove the tier"
        seen: dict[str, Cell] = {}
        for cell in cells:
            same = seen.setdefault(cell.name, cell)
            if same is not cell:
                what = f"two of its cells have the name {cut(cell.name)}: {_shown(same)} and {_shown(cell)}"
                yield (), what, "a name keeps letters, digits and dots of a value: let values differ in those"
                return

    def _values(self, inherited: Mapping[str, Iterable[Value]]) -> Iterator[Fault]:
        for axis, values in self.axes.items():
            for index, value in enumerate(values):
                if not _slug(value) or REFERENCE in text_of(value):
                    yield (
                        (axis, index),
                        "cannot be part of a tier's name",
                        "it needs a letter or a digit, and no reference",
                    )
                elif axis in inherited and not _among(value, inherited[axis]):
                    hint = did_you_mean(text_of(value), map(text_of, inherited[axis]), "it has")
                    yield (axis, index), f"the parent has no cell with {axis}: {cut(text_of(value))}", hint

    def _exclusions(self, cells: list[Cell], axes: set[str]) -> Iterator[Fault]:
        for index, excluded in enumerate(self.excluded):
            unknown = [axis for axis in excluded if axis not in axes]
            for axis in unknown:
                yield (EXCLUDE, index, axis), f"there is no axis '{cut(axis)}'", did_you_mean(axis, axes, "axes")
            if not unknown and not any(_matches(cell, excluded) for cell in cells):
                yield (EXCLUDE, index), "matches no cell", "correct it, or remove it"


def read_matrix(tier: Node) -> Matrix:
    """Return a tier's matrix; what has the wrong form is left out, and the schema says so."""
    given = tier.value.get(MATRIX) if isinstance(tier.value, dict) else None
    written = given.value if given is not None and isinstance(given.value, dict) else {}
    lists = {
        axis: [node.value for node in values.value]
        for axis, values in written.items()
        if isinstance(values.value, list)
    }
    excluded = lists.pop(EXCLUDE, [])
    return Matrix(
        {
            axis: tuple(value for value in values if isinstance(value, str | int | bool))
            for axis, values in lists.items()
        },
        tuple({axis: node.value for axis, node in one.items()} for one in excluded if isinstance(one, dict)),  # type: ignore[misc]  # of scalars, as the schema says
    )


def _matches(cell: Cell, excluded: Mapping[str, Value]) -> bool:
    return all(axis in cell.values and _among(cell.values[axis], (value,)) for axis, value in excluded.items())


def _among(value: Value, others: Iterable[Value]) -> bool:
    """Say whether a value is among others. To Python, true is 1."""
    return any(value == other and type(value) is type(other) for other in others)


def _slug(value: Value) -> str:
    """Return a value as it stands in a name: lower-case letters, digits and dots, with single hyphens for all else."""
    text = re.sub(r"[^a-z0-9.]+", "-", text_of(value).lower())
    return re.sub(r"[.-]*([.-])[.-]*", r"\1", text).strip(".-")


def _shown(cell: Cell) -> str:
    return ", ".join(f"{axis} {cut(text_of(value))}" for axis, value in cell.values.items())
