"""What was to be reached, as values: against whom, how far above the floor, and what holds us back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import cache, contexts, many, noop, pytorch_warm
from benchmarks.cache_methods import FLOOR, OURS
from benchmarks.session import Session

__all__ = ["GOALS", "Goal", "Limit", "Than", "Verdict"]

PER_FILE, RCLONE, TAR = "google-cloud-storage, 16 threads", "rclone, 16 transfers", "tar and zstd -1, one object"
UNITS = {"s": "s", "mb": "MB"}
KINDS = {"wall_s": "wall", "cpu_s": "CPU", "memory_mb": "memory"}


@dataclass(frozen=True)
class Than:
    """How many times as much another takes; at least `times` is the goal, if there is one."""

    other: str
    times: float | None = None
    case: str = ""

    def said(self, goal: Goal, session: Session) -> Verdict:
        """Compare."""
        if self.case:
            mine, theirs = (session.median(case, goal.subject, goal.metric) for case in (goal.case, self.case))
            ratio = theirs / mine if mine and theirs else None
        else:
            ratio = session.ratio(goal.case, self.other, goal.subject, goal.metric)
        return Verdict.of(f"{self.other} {{}}", ratio, self.times, at_least=True)


@dataclass(frozen=True)
class Limit:
    """What is at most reached: so much of a metric, or (`of`) so many times what another subject takes."""

    most: float | None
    of: str = ""
    metric: str = ""

    def said(self, goal: Goal, session: Session) -> Verdict:
        """Compare."""
        metric = self.metric or goal.metric
        if self.of:
            ratio = session.ratio(goal.case, goal.subject, self.of, metric)
            kind = "" if metric == goal.metric else f", {KINDS[metric]}"
            return Verdict.of(f"{self.of}{kind} {{}}", ratio, self.most, at_least=False)
        found = session.runs(goal.case, goal.subject, metric)
        name, _, unit = metric.rpartition("_")
        unit = UNITS.get(unit, "")
        text = f"{name if unit else metric} {{}}"
        return Verdict.of(text, max(found, default=None), self.most, at_least=False, unit=f" {unit}" if unit else "")


@dataclass(frozen=True)
class Verdict:
    """A comparison as it is read, and whether its goal was met; None without a goal, or where nothing was measured."""

    text: str
    met: bool | None

    @classmethod
    def of(cls, text: str, value: float | None, goal: float | None, *, at_least: bool, unit: str = "x") -> Verdict:
        """Hold a value against its goal."""
        if value is None:
            return cls(text.format("not measured"), None)
        said = text.format(f"{value:.3g}{unit}" if value < 1000 else f"{value:,.0f}{unit}")
        if goal is None:
            return cls(said, None)
        met = value >= goal if at_least else value <= goal
        return cls(f"{said} ({'at least' if at_least else 'at most'} {goal:g}{unit})", met)


@dataclass(frozen=True)
class Goal:
    """One thing that we do: what it is held against, its floor and limits, and what keeps it from being faster."""

    what: str
    benchmark: str
    case: str
    subject: str
    metric: str = "wall_s"
    than: tuple[Than, ...] = ()
    floor: tuple[Limit, ...] = ()
    holds: str = ""

    def judged(self, sessions: Mapping[str, Session]) -> tuple[str, list[Verdict], list[Verdict]] | None:
        """Return what it took and how it compares, with others and with the floor; None where it was not measured."""
        session = sessions.get(self.benchmark)
        value = session.median(self.case, self.subject, self.metric) if session is not None else None
        if session is None or value is None:
            return None
        unit = UNITS[self.metric.rpartition("_")[2]]
        own = f"{value:.3g} {unit}{' of CPU' if self.metric == 'cpu_s' else ''}"
        return (
            own,
            [than.said(self, session) for than in self.than],
            [limit.said(self, session) for limit in self.floor],
        )


def _cache(what: str, case: str, *than: Than, floor: tuple[Limit, ...], holds: str) -> Goal:
    return Goal(what, "cache", case, OURS, than=than, floor=floor, holds=holds)


_RESTORE = (
    "Python for each entry and request (a third of its processor), and the SHA-256 of each pack (a fifth), which the floor "
    "leaves out"
)
_REAL = "entries are moved as ccache has compressed them; so few are mostly round trips, one after the other"
_WARM = f"(b) {next(change.what for change in pytorch_warm.ALWAYS if change.row == 'b')}"
GOALS = (
    Goal(
        *("doit with nothing to do, four tiers", "noop", noop.CASE, noop.OURS),
        than=(Than(noop.BAKE),),
        floor=(Limit(None, noop.EMPTY), Limit(None, noop.EMPTY, "cpu_s")),
        holds="the imports, one question to the daemon, `lstat` of each file that was read",
    ),
    Goal(
        *("doit with nothing to do, 1,000 tiers", "many_1000", "1,000 tiers, tree", many.OURS, "cpu_s"),
        than=(Than(many.BAKE), Than(many.TURBO)),
        floor=(Limit(None, many.BESIDE),),
        holds="doit's own cost of 4,000 tasks",
    ),
    Goal(
        *("the same, 10,000 tiers", "many_10000", "10,000 tiers, tree", many.OURS, "cpu_s"),
        floor=(Limit(None, many.BESIDE), Limit(150, "", "memory_mb"), Limit(1.2, many.BESIDE, "memory_mb")),
        holds="doit's tasks, of which it makes the 20,000 that are needed, and the engine's answer",
    ),
    Goal(
        *("reading a context of one file of 5 GB", "contexts", "one file of 5 GB", contexts.OURS, "first_s"),
        floor=(Limit(None, contexts.FLOOR),),
        holds="one file is one SHA-256, which one core makes",
    ),
    _cache(
        *("cold restore", cache.COLD_RESTORE, Than(PER_FILE, 14), Than(RCLONE, 5), Than(TAR, 1.5)),
        floor=(
            Limit(1.5, FLOOR),
            Limit(None, FLOOR, "cpu_s"),
            Limit(1.2, "tar x, no network"),
            Limit(300, "", "memory_mb"),
        ),
        holds=_RESTORE,
    ),
    _cache(
        *("cold push", cache.COLD_PUSH, Than(PER_FILE, 14)),
        floor=(Limit(1.5, FLOOR), Limit(None, FLOOR, "cpu_s"), Limit(300, "", "memory_mb")),
        holds="as above; each entry is read, checked and packed",
    ),
    _cache(
        *("push of 2 % changed", cache.CHANGED_PUSH, Than(PER_FILE, 5), Than(TAR, 16)),
        floor=(Limit(1.5, FLOOR), Limit(6, "", "requests")),
        holds="five round trips one after the other, for nobody may see half a push; the floor has one",
    ),
    _cache(
        *("push when a build has touched everything", cache.BUMPED_PUSH, Than(PER_FILE), Than(RCLONE)),
        floor=(Limit(1, "", "wall_s"), Limit(3, "", "requests")),
        holds="",
    ),
    _cache(
        *(
            "restore of a 30 % working set",
            cache.SET_NEAR,
            Than("the whole restore", 2.5, cache.COLD_RESTORE),
            Than(PER_FILE),
        ),
        floor=(Limit(1.5, FLOOR),),
        holds=_RESTORE,
    ),
    *(
        Goal(what, "cache_real", case, OURS, than=(Than(PER_FILE), Than(RCLONE), Than(TAR)), holds=_REAL)
        for what, case in (
            ("restore of entries of PyTorch's c10", cache.REAL_RESTORE),
            ("push of them", cache.REAL_PUSH),
        )
    ),
    Goal(
        *("the whole of PyTorch, wheels lost", "pytorch_warm", _WARM, pytorch_warm.OURS),
        floor=(Limit(40),),
        holds="unpacking the build folder, reading all that compiles, torch's links and its packing",
    ),
    Goal(
        *("PyTorch with CUDA, wheels lost, the compile", "cuda_warm", _WARM, pytorch_warm.OURS),
        floor=(Limit(150),),
        holds="CMake's configure and code generation, which no cache saves",
    ),
)
