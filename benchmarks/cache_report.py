"""What was measured, as JSON and as tables, and which goals that reaches."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cache_methods import METHODS

__all__ = ["SCENARIOS", "Measurement", "Session", "load", "render", "save"]

COLD_PUSH = "cold push"
COLD_RESTORE = "cold restore"
CHANGED_PUSH = "2 % changed: push"
WARM_UPDATE = "2 % changed: update of a warm directory"
BUMPED_PUSH = "all mtimes bumped: push"
SET_NEAR = "30 % working set, written together: restore"
SET_FAR = "30 % working set, scattered: restore"
REAL_PUSH = "real entries: push"
REAL_RESTORE = "real entries: restore"
SCENARIOS = (COLD_PUSH, COLD_RESTORE, CHANGED_PUSH, WARM_UPDATE, BUMPED_PUSH, SET_NEAR, SET_FAR)
REAL = (REAL_PUSH, REAL_RESTORE)
PER_FILE = ("threads", "manager")
_LABELS = {method.name: method.label for method in METHODS}


@dataclass(frozen=True)
class Measurement:
    """One run. Seconds, MB of memory, requests and bytes of their bodies as the server counted them.

    `needed` is the size of the files that were to be moved, `load` the machine's at the start.
    """

    latency: int
    scenario: str
    method: str
    run: int
    wall: float
    whole: float
    cpu: float
    rss: float
    requests: int
    sent: int
    received: int
    needed: int
    load: float


@dataclass(frozen=True)
class Session:
    """What the measurements were taken of and on."""

    machine: str
    command: str
    began: str
    ended: str
    entries: int
    bytes: int
    real: str
    notes: tuple[str, ...]


class Results:
    """Measurements to be asked for medians."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self.all = list(measurements)

    def of(self, latency: int, scenario: str, method: str) -> list[Measurement]:
        """The runs of one cell."""
        return [m for m in self.all if (m.latency, m.scenario, m.method) == (latency, scenario, method)]

    def median(
        self, latency: int, scenario: str, method: str, what: Callable[[Measurement], float] = lambda m: m.wall
    ) -> float | None:
        """The median of a cell, or None where nothing was measured."""
        found = [what(m) for m in self.of(latency, scenario, method)]
        return statistics.median(found) if found else None

    def best(self, latency: int, scenario: str, methods: Sequence[str]) -> float | None:
        """The best method's median."""
        found = [median for name in methods if (median := self.median(latency, scenario, name)) is not None]
        return min(found, default=None)


@dataclass(frozen=True)
class Goal:
    """What was to be reached at 20 ms; `value` computes what was, `sign` says in which direction."""

    text: str
    goal: float
    sign: str
    value: Callable[[Results], float | None]
    unit: str = "x"


def _faster(scenario: str, *than: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        ours, theirs = results.median(20, scenario, "imagetiers"), results.best(20, scenario, than)
        return theirs / ours if ours and theirs else None

    return value


def _slower(scenario: str, than: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        ours, theirs = results.median(20, scenario, "imagetiers"), results.median(20, scenario, than)
        return ours / theirs if ours and theirs else None

    return value


def _own(
    scenario: str, what: Callable[[Measurement], float], *, worst: bool = False
) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        if worst:
            return max((what(m) for m in results.of(20, scenario, "imagetiers")), default=None)
        return results.median(20, scenario, "imagetiers", what)

    return value


def _peak(results: Results) -> float | None:
    return max((m.rss for m in results.all if m.method == "imagetiers"), default=None)


def _fewer_bytes(results: Results) -> float | None:
    return next((m.needed / m.sent for m in results.all if (m.scenario, m.method) == (REAL_PUSH, "imagetiers")), None)


def _of_the_whole(what: Callable[[Measurement], float]) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        near, whole = (results.median(20, scenario, "imagetiers", what) for scenario in (SET_NEAR, COLD_RESTORE))
        return near / whole if near and whole else None

    return value


MORE, LESS = ">=", "<="
GOALS = (
    Goal("cold restore faster than the best Python per-file way", 14, MORE, _faster(COLD_RESTORE, *PER_FILE)),
    Goal("cold restore faster than rclone", 5, MORE, _faster(COLD_RESTORE, "rclone")),
    Goal("cold restore faster than `tar \\| zstd`", 1.5, MORE, _faster(COLD_RESTORE, "tar")),
    Goal("cold restore against a local `tar x`", 1.2, LESS, _slower(COLD_RESTORE, "local")),
    Goal("cold restore against the floor", 1.5, LESS, _slower(COLD_RESTORE, "floor")),
    Goal("cold push faster than the best Python per-file way", 14, MORE, _faster(COLD_PUSH, *PER_FILE)),
    Goal("cold push against the floor", 1.5, LESS, _slower(COLD_PUSH, "floor")),
    Goal("2 % push faster than `tar \\| zstd`", 16, MORE, _faster(CHANGED_PUSH, "tar")),
    Goal("2 % push faster than list-and-diff", 5, MORE, _faster(CHANGED_PUSH, *PER_FILE)),
    Goal("2 % push against the floor", 1.5, LESS, _slower(CHANGED_PUSH, "floor")),
    Goal(
        "30 % working set (written together) of the whole restore, seconds", 0.4, LESS, _of_the_whole(lambda m: m.wall)
    ),
    Goal("30 % working set (written together) of the whole restore, CPU", 0.4, LESS, _of_the_whole(lambda m: m.cpu)),
    Goal("30 % working set (written together) against the floor", 1.5, LESS, _slower(SET_NEAR, "floor")),
    Goal("2 % push, requests", 6, LESS, _own(CHANGED_PUSH, lambda m: m.requests, worst=True), ""),
    Goal("all mtimes bumped, requests", 3, LESS, _own(BUMPED_PUSH, lambda m: m.requests, worst=True), ""),
    Goal("all mtimes bumped, seconds", 1, LESS, _own(BUMPED_PUSH, lambda m: m.wall), " s"),
    Goal(
        "30 % working set (written together), bytes fetched of those needed",
        *(1.05, LESS),
        _own(SET_NEAR, lambda m: m.received / m.needed, worst=True),
    ),
    Goal("real entries, fewer bytes than the ccache directory", 2, MORE, _fewer_bytes),
    Goal("peak memory over all scenarios", 300, LESS, _peak, " MB"),
)


OPENING = """
# Moving a ccache directory to and from a bucket

{session.entries} entries, {megabytes:.0f} MB, payloads random: nothing compresses, so no method wins by bytes.
{session.machine}; load {low:.1f} to {high:.1f}, median {middle:.1f}. {session.began} to {session.ended}.

Repeat it: `{session.command}`

The server is the tests' own (`tests/gcs/server.py`), objects in memory, no TLS, no authentication, on the same cores as
the client; latency is added to each request. **Real Google Cloud Storage was not measured**: nothing here is a claim
about it. Methods take turns in each scenario, in an order that rotates with the runs. Every restore but the
floor's was checked: the list of files, all sizes, 200 contents.

Wall seconds are medians (lowest to highest of n runs), each run in a process of its own. Wall and CPU are of the work:
starting Python and importing takes {start:.1f} s more for each Python client and is left out for all of them alike;
rclone and gcloud are whole processes. CPU is the client's, with the programs it starts; requests and MB are what the
server counted; memory is the client process's highest peak. The server computes MD5s only for rclone and gcloud, which
compare by them. The floor is Python, too: plain requests of 8 MiB on 16 threads that know beforehand what they move, and
files written without a temporary name, an mtime or a check.
"""


def save(path: Path, session: Session, measurements: Sequence[Measurement]) -> None:
    """Write everything as JSON."""
    values = {"session": asdict(session), "measurements": [asdict(m) for m in measurements]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n")


def load(path: Path) -> tuple[Session, list[Measurement]]:
    """Read what `save` wrote."""
    values = json.loads(path.read_text())
    session = Session(**{**values["session"], "notes": tuple(values["session"]["notes"])})
    return session, [Measurement(**value) for value in values["measurements"]]


def render(session: Session, measurements: Sequence[Measurement]) -> str:
    """Make the whole report in markdown."""
    results = Results(measurements)
    latencies = sorted({m.latency for m in measurements}, key=lambda ms: (ms != 20, ms))
    parts = [_opening(session, results), "## Goals\n\n" + _goals(results)]
    for latency in latencies:
        title = f"## {latency} ms added to each request" if latency else "## No latency added"
        parts.append(f"{title}\n\n{_table(results, latency, SCENARIOS)}")
    if any(m.scenario in REAL for m in measurements):
        parts.append(f"## Real entries\n\n{session.real}\n\n{_table(results, latencies[0], REAL)}")
    return "\n\n".join(parts) + "\n"


def _opening(session: Session, results: Results) -> str:
    loads = [m.load for m in results.all]
    starts = [m.whole - m.wall for m in results.all if m.method in ("imagetiers", *PER_FILE)]
    text = OPENING.format(
        session=session,
        megabytes=session.bytes / 1e6,
        low=min(loads),
        high=max(loads),
        middle=statistics.median(loads),
        start=statistics.median(starts) if starts else 0.0,
    )
    return "\n\n".join((text.strip(), *session.notes))


def _table(results: Results, latency: int, scenarios: Iterable[str]) -> str:
    shown = [name for name in _LABELS if any((m.latency, m.method) == (latency, name) for m in results.all)]
    chosen = [s for s in scenarios if any((m.latency, m.scenario) == (latency, s) for m in results.all)]
    blocks = []
    for scenario in chosen:
        rows = [
            f"| **{scenario}** | wall s | n | CPU s | requests | MB sent | MB received | peak MB |",
            "|---" * 8 + "|",
        ]
        rows += [_row(_LABELS[name], results.of(latency, scenario, name)) for name in shown]
        blocks.append("\n".join(row for row in rows if row))
    return "\n\n".join(blocks)


def _row(label: str, runs: Sequence[Measurement]) -> str:
    if not runs:
        return ""
    walls = [m.wall for m in runs]
    wall = f"**{statistics.median(walls):.2f}**" + (f" ({min(walls):.2f} to {max(walls):.2f})" if len(runs) > 1 else "")
    cells = (
        *(label, wall, str(len(runs)), f"{statistics.median(m.cpu for m in runs):.2f}"),
        f"{statistics.median_high([m.requests for m in runs])}",
        f"{statistics.median(m.sent for m in runs) / 1e6:.1f}",
        f"{statistics.median(m.received for m in runs) / 1e6:.1f}",
        f"{max(m.rss for m in runs):.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _goals(results: Results) -> str:
    rows = ["| goal (20 ms, medians) | wanted | measured | |", "|---|---|---|---|"]
    for goal in GOALS:
        value = goal.value(results)
        if value is None:
            verdict, measured = "not measured", "-"
        else:
            reached = value >= goal.goal if goal.sign == MORE else value <= goal.goal
            verdict, measured = "reached" if reached else "**missed**", f"{value:.3g}{goal.unit}"
        rows.append(f"| {goal.text} | {goal.sign} {goal.goal:g}{goal.unit} | {measured} | {verdict} |")
    return "\n".join(rows)
