"""`matrix:` of tiers: one tier a cell, and of each tier whose parent has cells one for each of those. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from imagetiers.config.cells import Cell, Fault, Matrix, read_matrix
from imagetiers.config.chains import ancestors, links
from imagetiers.config.interpolation import MATRIX, Filling
from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.schema import cut, place
from imagetiers.config.yamltree import MAX_NODES, Node, Path
from imagetiers.errors import PipelineError, Problem

__all__ = ["Families", "expand_matrices", "fold"]

_MOST = 256  # cells of a tier
_WHY = ("there is no matrix here", "matrix: {NAME: [...]} on this tier, or on one above it")
_WHY_OUTSIDE = ("only a tier has a matrix", "write it below tiers, or use a variable")
_NOT_FILLED = frozenset({"variants", "tiers"})
Families = Mapping[str, tuple[str, ...]]
"""The names of cells by the name of the tier that they are cells of."""


@dataclass(slots=True)
class _Expansion:
    """What is found on the way, parents first. `broken` are tiers whose cells nobody can tell: something is wrong with them."""

    tree: Node
    tiers: Mapping[str, Node]
    problems: dict[Problem, None]
    wrong: set[Path]
    matrices: Mapping[str, Matrix]
    parents: Mapping[str, str]
    cells: dict[str, tuple[Cell, ...]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    def tell(self, path: Path, what: str, hint: str, *, key: bool = False) -> None:
        self.problems[Problem(place(self.tree, path, PIPELINE_FILE, key=key), what, hint)] = None

    def look(self, name: str) -> None:
        """Find out a tier's cells."""
        matrix, path = self.matrices[name], ("tiers", name, MATRIX)
        above = self.cells.get(self.parents.get(name, ""), ())
        if self.parents.get(name) in self.broken or any(one in {path[:2], path} for one in self._wrong_of(name)):
            self.broken.add(name)
        elif above or matrix.axes or matrix.excluded:
            count = matrix.size * max(1, len(above))
            if count > _MOST:
                faults: list[Fault] = [
                    ((), f"has {count:,} cells; the limit is {_MOST}", "split the tier, or shorten an axis")
                ]
            else:
                faults = list(matrix.faults(name, above))
            for below, what, hint in faults:
                self.tell((*path, *below), what, hint, key=bool(below) and isinstance(below[-1], str))
            if faults:
                self.broken.add(name)
            else:
                self.cells[name] = matrix.cells(name, above)

    def _follow(self, contexts: Node, cell: Cell) -> Node:
        """Return the contexts of a cell: of a tier with cells, the one that has the same values."""
        found = dict(contexts.value) if isinstance(contexts.value, dict) else {}
        for name, context in found.items():
            tier = context.value.get("tier") if isinstance(context.value, dict) else None
            others = self.cells.get(tier.text, ()) if tier is not None else ()
            own = next((other.name for other in others if other.values.items() <= cell.values.items()), None)
            if own is not None and tier is not None and isinstance(context.value, dict):
                found[name] = replace(context, value={**context.value, "tier": replace(tier, value=own, text=own)})
        return replace(contexts, value=found) if found else contexts

    def _wrong_of(self, name: str) -> Iterator[Path]:
        yield from (path[:3] for path in self.wrong if path[:2] == ("tiers", name))

    def tiers_of(self, name: str) -> Iterator[tuple[str, Node]]:
        """Yield the tiers that a tier becomes: itself, where it has no cells."""
        tier = self.tiers[name]
        if not isinstance(tier.value, dict):
            yield name, tier
            return
        bare = replace(tier, value={key: node for key, node in tier.value.items() if key != MATRIX})
        if name not in self.cells:
            if name in self.broken:
                self.wrong.add(("tiers", name))
            silent = name in self.broken
            filling = Filling(MATRIX, None, self.problems, self.wrong, _WHY, silent=silent)
            yield name, filling.fill(bare, ("tiers", name))
        for cell in self.cells.get(name, ()):
            filled = Filling(MATRIX, cell.values, self.problems, self.wrong).fill(bare, ("tiers", cell.name))
            entries = dict(filled.value) if isinstance(filled.value, dict) else {}
            if cell.parent is not None:
                entries["parent"] = replace(entries["parent"], value=cell.parent, text=cell.parent)
            if "contexts" in entries:
                entries["contexts"] = self._follow(entries["contexts"], cell)
            entries.setdefault("folder", Node(name, tier.line, tier.column, text=name))
            yield cell.name, replace(filled, value=entries)


def expand_matrices(tree: Node, problems: dict[Problem, None], wrong: set[Path]) -> tuple[Node, Families]:
    """Return the tree with a tier for each cell, with the references to it filled in, and the families.

    A tier of which something is wrong stays one tier, and is `wrong`. Raises PipelineError for more than anybody means.
    """
    written = tree.value if isinstance(tree.value, dict) else {}
    outside = Filling(MATRIX, None, problems, wrong, _WHY_OUTSIDE)
    entries = {key: node if key in _NOT_FILLED else outside.fill(node, (key,)) for key, node in written.items()}
    tiers = tree.at(("tiers",))
    if tiers is tree or not isinstance(tiers.value, dict):
        return replace(tree, value=entries), {}
    expansion = _expansion(tree, tiers.value, problems, wrong)
    made: dict[str, Node] = {}
    keys: dict[str, Node] = {}
    for name, tier in tiers.value.items():
        for own, node in expansion.tiers_of(name):
            if own != name and (own in made or own in tiers.value):
                what = f"a cell of it is called {cut(own)}, as another tier is"
                expansion.tell(("tiers", name), what, "rename one", key=True)
                wrong.add(("tiers", own))
            made[own] = node
            keys[own] = (tiers.keys or {}).get(name, tier)
    entries["tiers"] = replace(tiers, value=made, keys=keys)
    families = {name: tuple(cell.name for cell in cells) for name, cells in expansion.cells.items()}
    return replace(tree, value=entries), families


def _expansion(tree: Node, tiers: Mapping[str, Node], problems: dict[Problem, None], wrong: set[Path]) -> _Expansion:
    """Find out the cells of all tiers."""
    above = links(tiers, "parent")
    depth = ancestors(above)
    parents = {name: parent for name, parent in above.items() if depth[name] is not None}
    matrices = {name: read_matrix(tier) for name, tier in tiers.items()}
    found = _Expansion(tree, tiers, problems, wrong, matrices, parents)
    size = 0
    for name in sorted(tiers, key=lambda name: depth.get(name, 0) or 0):
        found.look(name)
        size += len(found.cells[name]) * _size(tiers[name]) if name in found.cells else 0
        if size > MAX_NODES:
            what = f"the matrices come to more than {MAX_NODES:,} values"
            raise PipelineError(Problem(place(tree, ("tiers",), PIPELINE_FILE), what, "shorten an axis"))
    return found


def _size(node: Node) -> int:
    """Return how many values there are at a node and below."""
    below = node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    return 1 + sum(map(_size, below))


def fold(problems: Iterable[Problem], families: Families) -> list[Problem]:
    """Return each problem once: one of all cells of a tier is the first one's, with the number of the others."""
    family = {cell: name for name, cells in families.items() for cell in cells}
    folded: dict[tuple[str, str, str], tuple[Problem, list[str]]] = {}
    for problem in problems:
        cell = _cell_of(problem, family)
        texts = (problem.where, problem.what, problem.hint)
        where, what, hint = texts if cell is None else (text.replace(cell, family[cell]) for text in texts)
        _, cells = folded.setdefault((where, what, hint), (problem, []))
        cells += [cell] if cell is not None else []
    return [
        replace(problem, what=f"{problem.what} (so in {len(cells) - 1} more of its cells)")
        if len(cells) > 1
        else problem
        for problem, cells in folded.values()
    ]


def _cell_of(problem: Problem, family: Mapping[str, str]) -> str | None:
    """Return the cell that a problem is of, None where it is of none."""
    for text in (problem.where, problem.hint) if family else ():
        _, found, path = text.partition("tiers.")
        cell = next((head for head in _heads(path.partition(":")[0].partition(" ")[0]) if head in family), None)
        if found and cell is not None:
            return cell
    return None


def _heads(path: str) -> Iterator[str]:
    """Yield what of `a.b.c` may be a name that holds dots, the longest first: `a.b.c`, `a.b`, `a`."""
    parts = path.split(".")
    yield from (".".join(parts[:end]) for end in range(len(parts), 0, -1))
