"""What the report shows, as values: everything that its template reads. Sizes in bytes, times in Unix seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from posixpath import commonprefix

from imagetiers.judging.outcome import FailedVerdict
from imagetiers.planning.hit_rates import ClassHits
from imagetiers.planning.sizes import LayerSize
from imagetiers.planning.timeline import Timeline
from imagetiers.report.ccache_stats import CompileHistory, NamespaceView

__all__ = [
    "BuildState",
    "CompileRun",
    "DeviceRow",
    "DeviceView",
    "Forecasted",
    "KeyView",
    "PageView",
    "ScanView",
    "SlowObject",
    "TierView",
    "VulnerabilityView",
]


_NEAR, _NEAR_SECONDS = 0.25, 2.0  # what a forecast may be off by, and be of use


class BuildState(Enum):
    """What the cache knows of the image of a tier's key."""

    PUBLISHED = "published"
    VERIFIED = "verified"
    FAILED = "failed"
    BUILT = "built"
    NONE = "no record"


@dataclass(frozen=True, slots=True)
class KeyView:
    """A tier's key document, as lines, and how it differs from that of the build before (`before`: its key, '' for none)."""

    document: str
    before: str = ""
    before_began: float = 0.0
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TierView:
    """A tier: what is known of the image of its key. `own` is the first layer that is not its parent's.

    `size` and `began` are of the newest build of this key, None where there is no record of one. `failed` is what the last
    checks of that image have found wrong, unless it has passed since.
    """

    name: str
    parent: str | None
    key: str
    state: BuildState
    key_view: KeyView
    size: int | None = None
    began: float | None = None
    layers: tuple[LayerSize, ...] = ()
    own: int = 0
    checks: int = 0
    failed: FailedVerdict | None = None

    @property
    def weight(self) -> int:
        """The bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def twice(self) -> int:
        """The bytes that stand in the image twice, by layers of its own."""
        return sum(layer.twice for layer in self.layers[self.own :])


@dataclass(frozen=True, slots=True)
class CompileRun:
    """A compile as its record tells it. `total` sums up its classes."""

    tier: str
    key: str
    began: float
    seconds: float
    total: ClassHits

    def __str__(self) -> str:
        if not self.total.hits + self.total.misses:
            return "no compiler was called through ccache"
        return str(self.total)


@dataclass(frozen=True, slots=True)
class Forecasted:
    """What a build was forecast to take, from so many `builds` between `low` and `high`, and what it took; seconds."""

    task: str
    began: float
    expected: float
    low: float
    high: float
    took: float
    builds: int = 0

    @property
    def off(self) -> str:
        """By how much of the forecast it took longer (+) or less long."""
        return f"{round(100 * (self.took / self.expected - 1)):+d} %" if self.expected else ""

    @property
    def near(self) -> bool:
        """Whether it took as long as was said, or about that."""
        within = self.low <= self.took <= self.high
        return within or abs(self.took - self.expected) <= max(_NEAR * self.expected, _NEAR_SECONDS)


@dataclass(frozen=True, slots=True)
class SlowObject:
    """An object of a compile: seconds when it was last compiled, bytes that it needed."""

    tier: str
    name: str
    seconds: float
    memory: int


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A library: how each GPU runs it, in words, and how good that is (`native`, `compatible`, `ptx`, `not`)."""

    path: str
    by_others: bool
    fits: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DeviceView:
    """The libraries of a tier's image, held against GPUs."""

    tier: str
    gpus: tuple[str, ...]
    rows: tuple[DeviceRow, ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class VulnerabilityView:
    """A vulnerability of an image: what the policy said of it (`fails`, `waived`, `passes`), and whether it is new in it."""

    id: str
    package: str
    version: str
    fixed: str
    severity: str
    judged: str
    new: bool


@dataclass(frozen=True, slots=True)
class ScanView:
    """What the last scan of a tier's image has found, the worst first, and what the image before had and this one has not.

    `more` are left out; `compared`: whether there is a scan of the image before.
    """

    tier: str
    at: float
    scanner: str
    database: str
    found: tuple[VulnerabilityView, ...]
    gone: tuple[str, ...] = ()
    more: int = 0
    compared: bool = False


@dataclass(frozen=True, slots=True)
class PageView:
    """The report of a pipeline and variant, made at `made`, of builds since `since` (None: of all that are kept)."""

    pipeline: str
    variant: str
    made: float
    since: float | None
    tiers: tuple[TierView, ...]
    timeline: Timeline | None = None
    compiles: tuple[CompileRun, ...] = ()
    forecasts: tuple[Forecasted, ...] = ()
    objects: tuple[SlowObject, ...] = ()
    devices: tuple[DeviceView, ...] = ()
    scans: tuple[ScanView, ...] = ()
    namespaces: tuple[NamespaceView, ...] = ()
    growth: tuple[CompileHistory, ...] = ()
    notes: tuple[str, ...] = ()

    def children(self) -> Mapping[str | None, tuple[TierView, ...]]:
        """Return the tiers by their parent, in the order of the pipeline."""
        found: dict[str | None, list[TierView]] = {}
        names = {tier.name for tier in self.tiers}
        for tier in self.tiers:
            found.setdefault(tier.parent if tier.parent in names else None, []).append(tier)
        return {parent: tuple(some) for parent, some in found.items()}

    @property
    def objects_folder(self) -> str:
        """The folder that all of the slowest objects lie in, with the slash behind it; '' where there is none."""
        names = [one.name for one in self.objects]
        common = commonprefix(names) if len(names) > 1 else ""
        return common[: common.rfind("/") + 1]

    @property
    def compile_seconds(self) -> float:
        """The most that the compilers of any of the compiles would have taken with an empty cache."""
        return max((run.total.saved + run.total.compiled for run in self.compiles), default=0.0)
