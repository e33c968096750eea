"""The compile container's jobs: what it is given for its launcher (job.c), and what it has written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagetiers.ccache.call_log import Call, Outcome, read_call_log
from imagetiers.ccache.format.manifest import changed_files
from imagetiers.ccache.local import read_entry
from imagetiers.ccache.stats_log import Hits, read_stats_log
from imagetiers.inputs.context import archive
from imagetiers.inputs.files import InputFile, input_file
from imagetiers.planning.commands import CALL_LOG, JOB_KNOWN, JOB_LOG, JOB_SOURCE, STATS_LOG
from imagetiers.planning.hit_rates import HitRates, hit_rates
from imagetiers.planning.last_compile import LastCompile
from imagetiers.planning.misses import explain_misses
from imagetiers.planning.objects import Job, KnownObjects, read_jobs

__all__ = ["Measured", "last_compile", "launcher_files", "measured"]

_SOURCE = Path(__file__).with_name("job.c")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a compile has done: its calls by ccache's outcome, its compilers, and what the hits have saved."""

    hits: Hits
    calls: tuple[Call, ...] = ()
    jobs: tuple[Job, ...] = ()
    rates: HitRates = field(default_factory=HitRates)

    @property
    def rate(self) -> float:
        """The lower of the two rates, by calls and by seconds: many hits that saved little make no warm compile."""
        seconds = self.rates.total.rate
        return self.hits.rate if seconds is None else min(self.hits.rate, seconds)

    @property
    def starved(self) -> tuple[str, ...]:
        """Say which compilers the kernel has killed for want of memory, to the end."""
        last = {job.object: job for job in self.jobs}
        return tuple(
            f"{job.source or job.object}: its compiler was killed at {_mebibytes(job.peak)}"
            for job in last.values()
            if job.outcome == "starved"
        )

    @property
    def fed(self) -> tuple[str, ...]:
        """Say which objects were compiled after all, when their compilers had been killed."""
        killed: dict[str, Job] = {}
        told: list[str] = []
        for job in self.jobs:
            if job.outcome == "starved":
                killed[job.object] = job
            elif job.outcome == "done" and (before := killed.pop(job.object, None)) is not None:
                told.append(
                    f"{job.source or job.object}: its compiler was killed for want of memory at {_mebibytes(before.peak)}, "
                    f"and run again by itself: it needs {_mebibytes(job.peak)}"
                )
        return tuple(told)

    def __str__(self) -> str:
        return "; ".join(text for text in (str(self.hits), str(self.rates)) if text)


def last_compile(key: str, began: float, done: Measured, known: KnownObjects, toolchain: str) -> LastCompile:
    """Say what a compile of that key has missed, and why; `known` and `toolchain` as for `explain_misses`."""
    total = done.rates.total
    missed = explain_misses(done.calls, done.jobs, known, toolchain)
    saved = total.saved if total.rate is not None else None
    return LastCompile(key, began, total.hits, total.misses, saved, total.compiled, missed)


def _with_changes(call: Call, ccache: Path) -> Call:
    """Read from a miss's manifest, to which the new result was added, what differs from the one before."""
    if call.outcome is not Outcome.MISS or not call.manifest or call.result:
        return call
    data = read_entry(ccache, call.manifest)
    return call if data is None else replace(call, changed=changed_files(data))


def _mebibytes(size: int) -> str:
    return f"{size >> 20:,} MiB"


def launcher_files(known: KnownObjects, more: Iterable[InputFile] = ()) -> bytes:
    """Return a tar of what the container needs at its root before it starts."""
    files = [input_file(JOB_SOURCE[1:], _SOURCE.read_bytes()), input_file(JOB_KNOWN[1:], known.table())]
    return archive([*files, *more])


def measured(folder: Path, known: KnownObjects, ccache: Path) -> Measured:
    """Read what a compile has left in its folder; `known` is what was known before it. What is not there, was not measured.

    `ccache` is its cache directory, which says what headers have changed.
    """
    calls: tuple[Call, ...] = ()
    jobs: tuple[Job, ...] = ()
    hits = Hits(0, 0, 0, 0)
    if (folder / STATS_LOG).exists():
        hits = read_stats_log((folder / STATS_LOG).read_text(errors="replace"))
    if (folder / CALL_LOG).exists():
        with (folder / CALL_LOG).open(errors="replace") as lines:
            calls = tuple(_with_changes(call, ccache) for call in read_call_log(lines))
    if (folder / JOB_LOG).exists():
        with (folder / JOB_LOG).open(errors="replace", newline="\n") as lines:
            jobs = tuple(read_jobs(lines))
    return Measured(hits, calls, jobs, hit_rates(calls, jobs, known))
