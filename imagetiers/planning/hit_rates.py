"""What hits have saved, in calls and in seconds, by class of object. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from imagetiers.ccache.call_log import Call, Outcome
from imagetiers.planning.objects import Job, KnownObjects

__all__ = ["HOST_HALF", "ClassHits", "HitRates", "class_of", "hit_rates"]

OTHER = "links and other"
HOST_HALF = "host half of CUDA"
_ENOUGH = 0.9  # of the hits must have known seconds before what they have saved is a rate


@dataclass(frozen=True, slots=True)
class ClassHits:
    """Calls and wall seconds of one class of objects. `unknown` hits have saved seconds that nobody has measured.

    `saved` are seconds that the hits' objects took when they were compiled, `compiled` those that this compile has spent.
    """

    name: str
    hits: int = 0
    misses: int = 0
    unknown: int = 0
    saved: float = 0.0
    compiled: float = 0.0

    @property
    def rate(self) -> float | None:
        """The saved seconds as a fraction of all; None where too little is known of what the hits have saved."""
        total = self.saved + self.compiled
        if not total or self.hits - self.unknown < _ENOUGH * self.hits:
            return None
        return self.saved / total

    def __str__(self) -> str:
        calls = f"{self.hits} of {self.hits + self.misses} calls were hits"
        if self.rate is None:
            return f"{calls}, {_seconds(self.compiled)} s compiled"
        return f"{calls}, {_seconds(self.saved)} of {_seconds(self.saved + self.compiled)} s saved ({100 * self.rate:.1f} %)"


@dataclass(frozen=True, slots=True)
class HitRates:
    """A compile's hits by class; `other` is what can be no hit: links, configure checks, what has failed."""

    classes: tuple[ClassHits, ...] = ()
    other: float = 0.0

    @property
    def total(self) -> ClassHits:
        """All classes together."""
        return ClassHits(
            "all",
            sum(one.hits for one in self.classes),
            sum(one.misses for one in self.classes),
            sum(one.unknown for one in self.classes),
            sum(one.saved for one in self.classes),
            sum(one.compiled for one in self.classes),
        )

    def __str__(self) -> str:
        total = self.total
        if total.rate is None:
            return ""
        both = _seconds(total.saved + total.compiled)
        return f"{_seconds(total.saved)} of {both} s of compiling saved ({100 * total.rate:.1f} %)"

    def by_class(self) -> tuple[str, ...]:
        """Return a line for each class, where there is more than one."""
        lines = [f"{one.name}: {one}" for one in self.classes]
        if self.other >= 1:
            lines.append(f"{OTHER}: {_seconds(self.other)} s, which no cache saves")
        return tuple(lines) if len(lines) > 1 else ()


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"  # noqa: PLR2004


def class_of(target: str, source: str) -> str:
    """Return what kind of code an object is. nvcc-per-arch has a folder of units for each CUDA object: see there."""
    path = PurePosixPath(target)
    if path.parent.name.endswith(".units"):
        return HOST_HALF if path.stem == "host" else f"device code {path.stem}"
    return "CUDA" if source.endswith(".cu") else "C and C++"


def hit_rates(calls: Iterable[Call], jobs: Iterable[Job], before: KnownObjects) -> HitRates:
    """Count hits in calls and in seconds: what a hit has saved is what its object took when it was last compiled."""
    spent: dict[str, float] = {}
    for job in jobs:
        spent[job.object] = spent.get(job.object, 0.0) + job.seconds
    found: dict[str, ClassHits] = {}
    for call in calls:
        if call.outcome is Outcome.OTHER:
            continue
        name = class_of(call.object, call.source)
        one = found.get(name, ClassHits(name))
        if call.outcome is Outcome.HIT:
            known = before.objects.get(call.object)
            saved = one.saved + (known.seconds if known is not None else 0.0)
            found[name] = replace(one, hits=one.hits + 1, unknown=one.unknown + (known is None), saved=saved)
        else:
            compiled = one.compiled + spent.pop(call.object, 0.0)
            found[name] = replace(one, misses=one.misses + 1, compiled=compiled)
    return HitRates(tuple(found[name] for name in sorted(found)), sum(spent.values()))
