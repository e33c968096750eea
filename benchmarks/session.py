"""What one benchmark measured, where and when: the one shape in which results are kept, as JSON in `benchmarks/results/`.

A file holds sessions, one a benchmark: what measures again replaces its own. `load` refuses what it does not know.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "ROOT", "Machine", "Measured", "Session", "keep", "load", "load_all", "recording"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FORMAT = 1

_PROGRAMS = {
    "docker": ("docker", "version", "--format", "{{.Server.Version}}"),
    "buildx": ("docker", "buildx", "version"),
    "ccache": ("ccache", "--version"),
    "rclone": ("rclone", "version"),
    "turbo": ("turbo", "--version"),
    "zstd": ("zstd", "--version"),
}
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?\S*")


@dataclass(frozen=True)
class Machine:
    """Where it ran. `memory_gb` is of 10^9 bytes."""

    cores: int
    processor: str
    memory_gb: float
    system: str


@dataclass(frozen=True)
class Measured:
    """What one subject took in one case: by metric (its name ends in the unit, as `wall_s`) the value of each run, in turn."""

    case: str
    subject: str
    runs: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Session:
    """One run of one benchmark. `load` is the machine's average of a minute before and after; None where nobody noted it.

    `revision` ends in `+` where the tree had changes that were not committed. `notes` are sentences that hold for this run.
    """

    benchmark: str
    command: str
    began: str
    ended: str
    revision: str
    machine: Machine
    versions: Mapping[str, str]
    load: tuple[float | None, float | None]
    notes: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = field(default=())

    @property
    def cases(self) -> list[str]:
        """The cases, in the order in which they were measured."""
        return list(dict.fromkeys(one.case for one in self.measured))

    def subjects(self, case: str) -> list[str]:
        """Those that were measured in a case."""
        return [one.subject for one in self.measured if one.case == case]

    def runs(self, case: str, subject: str, metric: str) -> tuple[float, ...]:
        """Every run's value; empty where nothing was measured."""
        found = (one.runs.get(metric, ()) for one in self.measured if (one.case, one.subject) == (case, subject))
        return next(found, ())

    def median(self, case: str, subject: str, metric: str) -> float | None:
        """The median, or None where nothing was measured."""
        found = self.runs(case, subject, metric)
        return statistics.median(found) if found else None

    def ratio(self, case: str, subject: str, other: str, metric: str) -> float | None:
        """How many times as much as another a subject took: the median over the pairs of runs that were made in turn.

        Where they have not as many runs, the ratio of the medians.
        """
        mine, theirs = self.runs(case, subject, metric), self.runs(case, other, metric)
        if not mine or not theirs or not all(theirs):
            return None
        if len(mine) != len(theirs):
            return statistics.median(mine) / statistics.median(theirs)
        return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def load(path: Path) -> tuple[Session, ...]:
    """Read the sessions of a file. Raises ValueError where it is not what `keep` writes."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{path}: not a result of format {FORMAT}")
    try:
        return tuple(_session(values) for values in document["sessions"])
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def load_all(folder: Path = RESULTS) -> dict[str, Session]:
    """Read all results that are kept, by benchmark. Raises ValueError where two files hold the same benchmark."""
    found: dict[str, Session] = {}
    for path in sorted(folder.glob("*.json")):
        for session in load(path):
            if session.benchmark in found:
                raise ValueError(f"{path}: {session.benchmark} stands in another file, too")
            found[session.benchmark] = session
    return found


def keep(path: Path, session: Session) -> None:
    """Write a session into a file, in the place of its benchmark's last one."""
    sessions = {one.benchmark: one for one in (load(path) if path.exists() else ())}
    sessions[session.benchmark] = session
    lines = [f'{{"format": {FORMAT}, "sessions": [']
    lines.append(",\n".join(_lines(one) for one in sessions.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text("\n".join((*lines, "]}")) + "\n", encoding="utf-8")
    temporary.replace(path)


@contextmanager
def recording(benchmark: str, to: Path | None, notes: Sequence[str] = ()) -> Iterator[list[Measured]]:
    """Collect what a benchmark measures; at the end write it to a file, if there is one, and print it."""
    began, before = _now(), _load()
    measured: list[Measured] = []
    yield measured
    session = Session(
        *(benchmark, _command(), began, _now(), _revision(), _machine(), _versions(), (before, _load())),
        *(tuple(notes), tuple(measured)),
    )
    if to is not None:
        keep(to, session)
    print(text(session))


def text(session: Session) -> str:
    """Return a session as plain text: in each case a line for each subject, with its medians."""
    lines = [f"{session.benchmark}: {session.machine.cores} cores, load {session.load[0]} to {session.load[1]}"]
    for case in session.cases:
        lines.append(f"\n{case}")
        for one in session.measured:
            if one.case == case:
                medians = ", ".join(f"{name} {statistics.median(values):.4g}" for name, values in one.runs.items())
                lines.append(f"  {one.subject}: {medians}")
    return "\n".join(lines)


def _session(values: dict[str, Any]) -> Session:
    measured = tuple(_measured(one) for one in values["measured"])
    machine = Machine(**values["machine"])
    before, after = values["load"]
    for one in (
        *values["notes"],
        *values["versions"].values(),
        values["benchmark"],
        values["began"],
        values["revision"],
    ):
        if not isinstance(one, str):
            raise TypeError(f"{one!r} is no string")
    known = {one.name for one in fields(Session)}
    if values.keys() != known:
        raise ValueError(f"unknown or missing: {', '.join(sorted(values.keys() ^ known))}")
    return Session(
        **{**values, "machine": machine, "load": (before, after), "notes": tuple(values["notes"]), "measured": measured}
    )


def _measured(values: dict[str, Any]) -> Measured:
    runs = {name: tuple(map(float, found)) for name, found in values["runs"].items()}
    if values.keys() != {"case", "subject", "runs"} or not all(runs.values()):
        raise ValueError(f"not a measurement: {values}")
    return Measured(str(values["case"]), str(values["subject"]), runs)


def _lines(session: Session) -> str:
    """Return a session as JSON, one line a measurement: what changed is to be seen in a diff."""
    values = asdict(replace(session, measured=()))
    del values["measured"]
    measured = ",\n".join(f"  {json.dumps(asdict(_rounded(one)), ensure_ascii=False)}" for one in session.measured)
    return f'{json.dumps(values, indent=1, ensure_ascii=False)[:-2]},\n "measured": [\n{measured}\n ]\n}}'


def _rounded(one: Measured) -> Measured:
    runs = {name: tuple(float(f"{value:.6g}") for value in values) for name, values in one.runs.items()}
    return replace(one, runs=runs)


def _command() -> str:
    """Return what was run, without the folders of this machine."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    words = sys.argv[1:]
    if "--to" in words:
        at = words.index("--to")
        del words[at : at + 2]
    words = [Path(word).name.upper() if word.startswith("/") else word for word in words]
    return shlex.join(("python", "-m", spec.name if spec is not None else Path(sys.argv[0]).stem, *words))


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="seconds")


def _load() -> float:
    return round(os.getloadavg()[0], 2)


def _revision() -> str:
    changed = _told(
        "git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results"
    )
    return _told("git", "-C", str(ROOT), "rev-parse", "HEAD") + "+" * bool(changed)


def _machine() -> Machine:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return Machine(os.cpu_count() or 1, _processor(), round(memory, 1), platform.platform())


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "doit": version("doit")}
    for name, argv in _PROGRAMS.items():
        number = _VERSION.search(_told(*argv)) if shutil.which(argv[0]) else None
        if number is not None:
            found[name] = number[0].rstrip(",")
    return found


def _told(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
