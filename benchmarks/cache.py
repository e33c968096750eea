"""Push and restore a ccache directory: this project beside the other ways, in one run, on the tests' own server.

    python -m benchmarks.cache [--runs 3:1:0] [--latency 20] [--methods imagetiers,tar,...] [--scale 1.0] [--to FILE]
    python -m benchmarks.cache --real CCACHE_DIRECTORY --real-is 'what it is' ...

`--runs` has the number of runs of the methods that take seconds, of those with one object a file, and of gcloud. The second
form measures a directory that ccache itself has filled, and nothing else. All data lie in a temporary folder (about 5 GB at
scale 1; TMPDIR=/dev/shm keeps them in memory), which is removed; the server holds as much memory again.

Nothing is removed before the end. For minutes after a file was removed, ext4 does not give its inode to a new one, and
looks past each of them whenever a file is made: of a restore into a place that was cleared just before, that is most of
the time. For the same reason wait five minutes between two sessions on a disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import cache_data as data
from benchmarks.cache_methods import FLOOR, METHODS, OURS, Job, Method, Verb, run
from benchmarks.session import Measured, recording
from tests.gcs.harness import BUCKET, GcsServer

ENTRIES = 12_000
SHARE = 0.3
SETTLED = 4.0
"""Seconds that the entries are left alone before they are pushed, as nearly all of a build's are."""

COLD_PUSH = "cold push"
COLD_RESTORE = "cold restore"
CHANGED_PUSH = "push of 2 % changed"
WARM_UPDATE = "update of a warm directory, 2 %"
BUMPED_PUSH = "push when a warm build has touched everything"
SET_NEAR = "restore of a 30 % working set"
SET_FAR = "the same, scattered over all packs"
REAL_PUSH = "real entries: push"
REAL_RESTORE = "real entries: restore"


@dataclass
class Bench:
    """One session: the data, which every method gets as hard links of its own, and what was measured so far."""

    folder: Path
    change: data.Change
    measured: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    @property
    def base(self) -> Path:
        """The entries before the change."""
        return self.folder / "base"

    @property
    def changed(self) -> Path:
        """What the change rewrote and added."""
        return self.folder / "changed"

    @property
    def after(self) -> Path:
        """All entries after the change."""
        return self.folder / "after"

    @property
    def tar(self) -> Path:
        """The base as a local tar file."""
        return self.folder / "base.tar"


def prepare(folder: Path, count: int) -> Bench:
    """Make the data."""
    data.make_cache(folder / "base", count)
    change = data.make_change(folder / "base", folder / "changed", count)
    bench = Bench(folder, change)
    data.link_copy(bench.base, bench.after)
    data.link_copy(bench.changed, bench.after)
    shutil.make_archive(str(bench.tar.with_suffix("")), "tar", bench.base)
    return bench


@dataclass
class Round:
    """One run of every scenario: fresh servers (one that computes MD5s, one that does not), methods in turn."""

    bench: Bench
    latency: int
    number: int
    methods: Sequence[Method]
    servers: Mapping[bool, GcsServer]
    folder: Path

    def source(self, method: Method) -> Path:
        """The method's own copy of the cache directory."""
        return self.folder / f"source-{method.name}"

    def target(self, method: Method) -> Path:
        """The directory that the method restores into."""
        return self.folder / f"target-{method.name}"

    def turns(self, name: str) -> Iterator[Method]:
        """Methods in the order of this run; says on stderr where the session is."""
        first = self.number % len(self.methods)
        for method in (*self.methods[first:], *self.methods[:first]):
            print(f"{self.latency} ms, run {self.number}, {name}: {method.name}", file=sys.stderr, flush=True)
            yield method

    def measure(self, scenario: str, method: Method, verb: Verb, job: Job, needed: int) -> bool:
        """Do one job and note what it took; False when the method cannot do it."""
        before, load = self.stats(method), os.getloadavg()[0]
        taken = run(method, verb, job)
        if taken is None:
            return False
        after = self.stats(method)
        requests, sent, received = (b - a for a, b in zip(before, after, strict=True))
        values = {
            "wall_s": taken.wall,
            "whole_s": taken.whole,
            "cpu_s": taken.cpu,
            "memory_mb": taken.rss,
            "requests": requests,
            "sent_mb": sent / 1e6,
            "received_mb": received / 1e6,
            "needed_mb": needed / 1e6,
            "load": load,
        }
        cell = self.bench.measured.setdefault((scenario, method.label), {})
        for name, value in values.items():
            cell.setdefault(name, []).append(value)
        return True

    def stats(self, method: Method) -> tuple[int, int, int]:
        """Requests and the bytes of their bodies, in and out, since the method's server started."""
        found = json.loads(self.servers[method.md5].request("GET", "/_test/stats")[2])
        return int(found["requests"]), int(found["bytes"]["in"]), int(found["bytes"]["out"])

    def job(self, method: Method, folder: Path, **more: object) -> Job:
        """Describe a job of this method."""
        return replace(Job(self.servers[method.md5].url, BUCKET, method.name, str(folder)), **more)  # type: ignore[arg-type]

    def known(self, method: Method, folder: Path, names: Sequence[str]) -> dict[str, object]:
        """Tell the floor, and no other, what it is to move."""
        return {"like": str(folder), "some": tuple(names)} if method.label == FLOOR else {}

    def everything(self) -> None:
        """Measure all scenarios."""
        for method in self.methods:
            data.link_copy(self.bench.base, self.source(method))
        time.sleep(SETTLED)
        self.push(COLD_PUSH, self.bench.base)
        self.cold_restore()
        for method in self.methods:
            data.link_copy(self.bench.changed, self.source(method))
        self.push(CHANGED_PUSH, self.bench.changed)
        self.warm_update()
        self.bumped_push()
        self.working_set(SET_NEAR, "near", scattered=False)
        self.working_set(SET_FAR, "far", scattered=True)

    def push(self, scenario: str, new: Path, since: int | None = None) -> None:
        """Push every method's copy."""
        names = data.paths(new)
        needed = data.size_of(new, names)
        for method in self.turns(scenario):
            known = self.known(method, new, names) if since is None else {}
            if known and scenario != COLD_PUSH:
                known["step"] = "changed"
            self.measure(scenario, method, "push", self.job(method, self.source(method), since=since, **known), needed)

    def cold_restore(self) -> None:
        """Restore into an empty directory. What this leaves for later: our own index segments."""
        names = data.paths(self.bench.base)
        needed = data.size_of(self.bench.base, names)
        for method in self.turns(COLD_RESTORE):
            target = self.target(method)
            target.mkdir()
            job = self.job(method, target, source=str(self.bench.tar), **self.known(method, self.bench.base, names))
            if self.measure(COLD_RESTORE, method, "pull", job, needed) and method.label != FLOOR:
                data.check(self.bench.base, names, target)
            if (target / "imagetiers").is_dir():
                (target / "imagetiers").rename(self.folder / "segments")
            data.put_away(target)

    def warm_update(self) -> None:
        """Bring a directory that has the base up to date."""
        needed = data.size_of(self.bench.changed, data.paths(self.bench.changed))
        for method in self.turns(WARM_UPDATE):
            target = self.target(method)
            data.link_copy(self.bench.base, target)
            data.unlink_copies(target, self.bench.change.rewritten)
            if method.label == OURS:
                (self.folder / "segments").rename(target / "imagetiers")
            if self.measure(WARM_UPDATE, method, "pull", self.job(method, target), needed):
                data.check(self.bench.after, data.paths(self.bench.after), target)
            data.put_away(target)

    def bumped_push(self) -> None:
        """Push after a warm build: every mtime is new, nothing else. All copies share their inodes."""
        with self.used(data.paths(self.bench.after)) as since:
            self.push(BUMPED_PUSH, self.bench.changed, since)

    def working_set(self, scenario: str, step: str, *, scattered: bool) -> None:
        """Restore what one compile step used; for the others that is a list of files."""
        names = data.working_set(self.bench.after, SHARE, scattered=scattered)
        needed = data.size_of(self.bench.after, names)
        ours = next((method for method in self.methods if method.label == OURS), None)
        if ours:
            with self.used(names) as since:
                run(ours, "push", self.job(ours, self.source(ours), step=step, since=since))
        for method in self.turns(scenario):
            target = self.target(method)
            target.mkdir()
            more = self.known(method, self.bench.after, names) or {"some": None if method is ours else tuple(names)}
            job = self.job(method, target, step=step, **more)
            if self.measure(scenario, method, "pull", job, needed) and method.label != FLOOR:
                data.check(self.bench.after, names, target)
            data.put_away(target)

    @contextmanager
    def used(self, names: Sequence[str]) -> Iterator[int]:
        """Give these entries new mtimes as a build does that uses them, and the old ones again afterwards."""
        before = data.mtimes(self.bench.after, names)
        since = time.time_ns()
        data.set_mtimes(self.bench.after, {name: since + number for number, name in enumerate(names)})
        try:
            yield since
        finally:
            data.set_mtimes(self.bench.after, before)

    def real(self, cache: Path) -> None:
        """Push and restore a directory that ccache itself has filled."""
        names = data.paths(cache)
        needed = data.size_of(cache, names)
        for method in self.turns(REAL_PUSH):
            source, target = self.source(method), self.target(method)
            for name in names:
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(cache / name, source / name)
            target.mkdir()
            self.measure(REAL_PUSH, method, "push", self.job(method, source), needed)
            if self.measure(REAL_RESTORE, method, "pull", self.job(method, target), needed):
                data.check(cache, names, target, contents=len(names))


@contextmanager
def a_round(bench: Bench, latency: int, number: int, methods: Sequence[Method]) -> Iterator[Round]:
    """Start the servers, which are gone afterwards, and make a folder for one run, which goes with the data."""
    folder = Path(tempfile.mkdtemp(prefix="round-", dir=bench.folder))
    added = ("--latency", str(latency / 1000))
    with closing(GcsServer("--no-md5", *added)) as plain, closing(GcsServer(*added)) as hashing:
        yield Round(bench, latency, number, methods, {False: plain, True: hashing}, folder)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--latency", type=int, default=20, help="milliseconds added to each request")
    parser.add_argument(
        "--runs", default="3:1:0", help="of the quick methods, of those with one object a file, of gcloud"
    )
    parser.add_argument("--methods", default=",".join(method.name for method in METHODS))
    parser.add_argument("--scale", type=float, default=1.0, help=f"of {ENTRIES} entries")
    parser.add_argument("--real", type=Path, help="a directory that ccache has filled, to be measured alone")
    parser.add_argument("--real-is", default="", help="what that is")
    parser.add_argument("--name", default="cache", help="of the benchmark, under which the result is kept")
    parser.add_argument("--to", type=Path, help="the file that the result goes into")
    return parser.parse_args()


def main() -> None:
    """Measure."""
    options = parse()
    chosen = options.methods.split(",")
    methods = [method for method in METHODS if method.name in chosen and method.installed]
    counts = [int(text) for text in options.runs.split(":")]
    notes: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="imagetiers-bench-", ignore_cleanup_errors=True) as folder,
        recording(options.name, options.to, notes) as measured,
    ):
        bench = Bench(Path(folder), data.Change((), ()))
        if options.real is None:
            bench = prepare(Path(folder), round(ENTRIES * options.scale))
        notes.append(
            f"{_describe(options.real or bench.base, options.real_is)}, {options.latency} ms added to each request."
        )
        for number in range(max(counts)):
            turn = [method for method in methods if number < counts[method.pace]]
            with a_round(bench, options.latency, number, turn) as this:
                if options.real is None:
                    this.everything()
                else:
                    this.real(options.real)
        for (case, subject), values in bench.measured.items():
            measured.append(Measured(case, subject, {name: tuple(found) for name, found in values.items()}))


def _describe(cache: Path, what: str) -> str:
    names = data.paths(cache)
    size = data.size_of(cache, names) / 1e6
    return f"{what or 'Made up, shaped like those of PyTorch'}: {len(names):,} entries, {size:.1f} MB"


if __name__ == "__main__":
    main()
