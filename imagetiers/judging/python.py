"""What the image's own Python is asked, in order: modules, versions, and whether everything fits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imagetiers.config.checks import Declared
from imagetiers.judging.outcome import by_name

__all__ = ["PythonQuestion", "python_checks"]


@dataclass(frozen=True, slots=True)
class PythonQuestion:
    """A question to Python: its kind, what it is about, what is wanted, and the tier that asks."""

    kind: str
    name: str
    wanted: str
    tier: str

    @property
    def title(self) -> str:
        """What the check is called."""
        return f"{self.kind} {self.name}".strip()

    def __iter__(self) -> Iterator[str]:
        """Yield what the program in the image gets."""
        yield from (self.kind, self.name, self.wanted)


def python_checks(declared: Sequence[Declared]) -> tuple[PythonQuestion, ...]:
    """Return the questions of all tiers: of what two of them name, the younger one's."""
    versions = by_name(declared, lambda checks: checks.python.versions)
    imports = by_name(declared, lambda checks: checks.python.imports)
    pip = next((each.tier for each in declared if each.checks.python.pip_check), None)
    return (
        *(PythonQuestion("version", name, wanted, tier) for name, (tier, wanted) in versions.items()),
        *(PythonQuestion("import", name, wanted, tier) for name, (tier, wanted) in imports.items()),
        *((PythonQuestion("pip check", "", "", pip),) if pip is not None else ()),
    )
