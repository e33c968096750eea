"""What a plan will take: seconds from the records of builds like it, bytes to pull, and the price of a machine. Pure.

A build is like another one when tier, pipeline, variant, kind of change and the engine's number of processors are the
same. The kind is decided before a build, from what is known then, by `compile_change` and `image_change`: both by the
plan, which predicts, and by the build, which writes it into its record. Where there is no such record nothing is said.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from imagetiers.config.model import CompileStep
from imagetiers.planning.decide import TierDecision, TierState
from imagetiers.planning.keys import short
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import Plan, TierPlan

__all__ = [
    "READ",
    "USED",
    "Accuracy",
    "BuildKind",
    "BuildProfile",
    "Forecast",
    "Pull",
    "Sample",
    "Step",
    "Sum",
    "TierForecast",
    "Wheels",
    "accuracy",
    "add_up",
    "all_of",
    "all_pulls",
    "compile_change",
    "expected_steps",
    "forecast",
    "image_change",
    "pulls",
    "read_sample",
    "usd",
]

READ = 30
"""Records read of a tier's compiles or images, the newest; one listing and so many small reads."""
USED = 10
"""Of those that are like the build: what happened longer ago says less."""

_SHORTEST = 0.001  # seconds: nothing is forecast to take none, and one divides by it


class BuildKind(Enum):
    """What kind of build it is. The values are in records, so they stay."""

    COMPILE_COLD = "compile cold"
    COMPILE_PARTLY = "compile partly warm"
    COMPILE_WARM = "compile warm"
    COMPILE = "compile"  # without a compiler cache
    IMAGE = "image"
    IMAGE_PARENT = "image, parent pulled"
    IMAGE_AFRESH = "image without layers"

    @property
    def kind(self) -> str:
        """The kind of record that such a build writes: `compile` or `image`."""
        return self.name.partition("_")[0].lower()


@dataclass(frozen=True, slots=True)
class BuildProfile:
    """What two builds must have in common to be compared. `cpus` are the engine's; 0: nobody knows, and nothing is like it."""

    pipeline: str
    variant: str
    change: str
    cpus: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A build that was recorded: when it began (Unix seconds), its seconds, and the forecast that it had, if any."""

    like: BuildProfile
    began: float
    seconds: float
    predicted: Forecast | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds: the median of the builds that were like it, the shortest and the longest, and how many there were."""

    seconds: float
    low: float
    high: float
    records: int

    def document(self) -> dict[str, float]:
        """Return it as records and `doit plan --json` have it."""
        return {"seconds": self.seconds, "low": self.low, "high": self.high, "from": self.records}


@dataclass(frozen=True, slots=True)
class Wheels:
    """What the cache has for a tier whose wheels are not here.

    `size` of the finished wheels in bytes, None: it has none. `good`: a good run of the step is known; `some`: any entries
    at all, in the cache or on this machine. `pull`: the bytes of ccache packs that a compile would fetch first.
    """

    size: int | None = None
    good: bool = False
    some: bool = False
    pull: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A compile or an image that would be built: what is expected of it on this engine, and on the machine with a price."""

    task: str
    change: BuildKind
    here: Forecast | None = None
    there: Forecast | None = None


@dataclass(frozen=True, slots=True)
class Pull:
    """Something that would be fetched, at most `bytes` of it. Equal names are the same thing, fetched once."""

    what: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Sum:
    """Seconds of several steps, one after the other; `unknown` are the tasks that no record knows."""

    seconds: float = 0.0
    low: float = 0.0
    high: float = 0.0
    unknown: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether every step has a forecast."""
        return not self.unknown


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How good the forecasts of recorded builds were.

    Of `records` of them, `within` took between the shortest and the longest that was forecast; `error` is the median of
    how far the real seconds were from the forecast's, as a share of these.
    """

    records: int
    within: int
    error: float


@dataclass(frozen=True, slots=True)
class TierForecast:
    """What a tier would take. No steps and no pulls: nothing. `unknown`: nobody can tell whether it must be built."""

    tier: str
    steps: tuple[Step, ...] = ()
    pulls: tuple[Pull, ...] = ()
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    unknown: bool = False

    @property
    def here(self) -> Sum:
        """All steps on this engine."""
        return self._sum({step.task: step.here for step in self.steps})

    @property
    def there(self) -> Sum:
        """All steps on the machine that has a price."""
        return self._sum({step.task: step.there for step in self.steps})

    def _sum(self, steps: dict[str, Forecast | None]) -> Sum:
        return add_up(steps | {f"image:{self.tier}": None} if self.unknown else steps)


def compile_change(step: CompileStep, *, good: bool, some: bool) -> BuildKind:
    """Return what kind of compile it will be, by whether a good run of the step is known, or any entries at all."""
    if step.ccache is None:
        return BuildKind.COMPILE
    return BuildKind.COMPILE_WARM if good else BuildKind.COMPILE_PARTLY if some else BuildKind.COMPILE_COLD


def image_change(tier: TierPlan, here: Collection[str], *, force: bool) -> BuildKind:
    """Return what kind of image build it will be.

    `here` are the tiers whose images the engine holds when it begins; `force`: BuildKit's layers are not used.
    """
    if force:
        return BuildKind.IMAGE_AFRESH
    return BuildKind.IMAGE if all(name in here for name in tier.made_from) else BuildKind.IMAGE_PARENT


def expected_steps(
    plan: Plan, decisions: Iterable[TierDecision], seen: ObservedState, wheels: Mapping[str, Wheels]
) -> Mapping[str, tuple[Step, ...]]:
    """Return by tier what would be built, in order, without forecasts yet. `wheels` by tier, where they are not here."""
    listed = tuple(decisions)
    here = {name for name, tier in plan.tiers.items() if seen.image(tier) is not None}
    # When a child's turn comes, its parent was built, or pulled for its own checks.
    here |= {d.tier.name for d in listed if d.builds or f"verify:{d.tier.name}" in d.runs}
    steps: dict[str, tuple[Step, ...]] = {}
    for decision in listed:
        name, found = decision.tier.name, wheels.get(decision.tier.name)
        if not decision.builds:
            steps[name] = ()
            continue
        force = f"image:{name}" in seen.forced
        image = Step(f"image:{name}", image_change(decision.tier, here, force=force))
        if f"compile:{name}" in decision.runs and (found is None or found.size is None):
            known = found or Wheels()
            assert decision.tier.compile is not None  # noqa: S101  only such tiers run compile:
            change = compile_change(decision.tier.compile.config, good=known.good, some=known.some)
            steps[name] = (Step(f"compile:{name}", change), image)
        else:
            steps[name] = (image,)
    return steps


def pulls(
    plan: Plan, decision: TierDecision, steps: Iterable[Step], seen: ObservedState, wheels: Wheels | None
) -> tuple[Pull, ...]:
    """Return what a tier would fetch from the cache and the registry. Outside bases are not told: only BuildKit has them."""
    name, changes, found = decision.tier.name, {step.change for step in steps}, []
    if wheels is not None and wheels.size is not None and decision.tier.compile is not None:
        found.append(Pull(f"{decision.tier.compile.config.made} {short(decision.tier.compile.key)}", wheels.size))
    elif wheels is not None and wheels.pull:
        found.append(Pull(f"ccache of {name}", wheels.pull))
    made_from = decision.tier.made_from if BuildKind.IMAGE_PARENT in changes else ()
    pulled = [each for each in made_from if len(made_from) == 1 or seen.image(plan.tiers[each]) is None]
    if decision.state is TierState.FOUND_IN_REGISTRY and f"verify:{name}" in decision.runs:
        pulled.append(name)
    for tier in pulled:
        published = seen.published(plan.tiers[tier])
        if published is not None:
            found.append(Pull(f"image {tier}", published.size))
    return tuple(found)


def all_pulls(tier_forecasts: Iterable[TierForecast]) -> int:
    """Return the bytes of everything that would be fetched, each thing once."""
    return sum({pull.what: pull.bytes for outlook in tier_forecasts for pull in outlook.pulls}.values())


def forecast(samples: Iterable[Sample], like: BuildProfile) -> Forecast | None:
    """Return what the newest builds like this one took; None where no record says."""
    fitting = sorted((s for s in samples if s.like == like and like.cpus), key=lambda s: s.began)[-USED:]
    if not fitting:
        return None
    seconds = [sample.seconds for sample in fitting]
    return Forecast(statistics.median(seconds), min(seconds), max(seconds), len(seconds))


def add_up(steps: Mapping[str, Forecast | None]) -> Sum:
    """Add forecasts, by their tasks."""
    known = [one for one in steps.values() if one is not None]
    unknown = tuple(task for task, one in steps.items() if one is None)
    return Sum(sum(f.seconds for f in known), sum(f.low for f in known), sum(f.high for f in known), unknown)


def all_of(sums: Iterable[Sum]) -> Sum:
    """Add sums."""
    total = Sum()
    for one in sums:
        unknown = (*total.unknown, *one.unknown)
        total = Sum(total.seconds + one.seconds, total.low + one.low, total.high + one.high, unknown)
    return total


def usd(seconds: float, usd_per_hour: float) -> float:
    """Return what so many seconds of a machine cost."""
    return seconds / 3600 * usd_per_hour


def accuracy(samples: Iterable[Sample], of: BuildProfile) -> Accuracy | None:
    """Hold what was recorded of a pipeline's variant against what had been forecast; None where nothing had been."""
    pairs = [
        (sample.seconds, sample.predicted)
        for sample in samples
        if sample.predicted is not None and (sample.like.pipeline, sample.like.variant) == (of.pipeline, of.variant)
    ]
    if not pairs:
        return None
    within = sum(said.low <= real <= said.high for real, said in pairs)
    errors = [abs(real - said.seconds) / max(said.seconds, _SHORTEST) for real, said in pairs]
    return Accuracy(len(pairs), within, statistics.median(errors))


def read_sample(document: object) -> Sample | None:
    """Read a record's JSON; None for one that says nothing: damaged, or without a kind (written by an earlier version)."""
    if not isinstance(document, dict):
        return None
    texts = [document.get(name) for name in ("pipeline", "variant", "change")]
    began, seconds, cpus = (_number(document.get(name)) for name in ("began", "seconds", "cpus"))
    if began is None or seconds is None or not cpus or not all(isinstance(text, str) for text in texts):
        return None
    if texts[2] not in {change.value for change in BuildKind}:
        return None
    like = BuildProfile(str(texts[0]), str(texts[1]), str(texts[2]), int(cpus))
    return Sample(like, began, seconds, _read_forecast(document.get("predicted")))


def _read_forecast(document: object) -> Forecast | None:
    if not isinstance(document, dict):
        return None
    seconds, low, high, records = (_number(document.get(name)) for name in ("seconds", "low", "high", "from"))
    if seconds is None or low is None or high is None or not records:
        return None
    return Forecast(seconds, low, high, int(records))


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if good else None
