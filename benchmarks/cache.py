"""Push and restore a ccache directory: this project beside the other ways, in one run, on the tests' own server.

    python -m benchmarks.cache [--runs 5:3:1,3:1:0,3:1:0] [--latency 20,0,50] [--methods imagetiers,tar,...]
                               [--scale 1.0] [--real CCACHE_DIRECTORY] [--results benchmarks/results/cache]

writes RESULTS.json (after every run, so a stopped session keeps what it has) and RESULTS.md. `--runs` has for each
latency the number of runs of the methods that take seconds, of those with one object a file, and of gcloud. With
`--add` the JSON's measurements stay and these are added; with `--render` the tables are made anew from them. All data
lie in a temporary folder (about 5 GB at scale 1), which is removed; the server holds as much memory again.

Nothing is removed before the end. For minutes after a file was removed, ext4 does not give its inode to a new one, and
looks past each of them whenever a file is made: of a restore into a place that was cleared just before, that is most of
the time. For the same reason wait five minutes between two sessions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import cache_data as data
from benchmarks import cache_report as report
from benchmarks.cache_methods import METHODS, Job, Method, Verb, run
from benchmarks.cache_report import Measurement
from tests.gcs.harness import BUCKET, GcsServer

ENTRIES = 12_000
SHARE = 0.3
OURS = "imagetiers"
FLOOR = "floor"


@dataclass
class Bench:
    """One session: the data, which every method gets as hard links of its own, and what was measured so far."""

    folder: Path
    change: data.Change
    measured: list[Measurement] = field(default_factory=list)

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
        self.bench.measured.append(
            Measurement(
                *(self.latency, scenario, method.name, self.number, taken.wall, taken.whole, taken.cpu, taken.rss),
                *(requests, sent, received, needed, load),
            )
        )
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
        return {"like": str(folder), "some": tuple(names)} if method.name == FLOOR else {}

    def everything(self) -> None:
        """Measure all scenarios."""
        for method in self.methods:
            data.link_copy(self.bench.base, self.source(method))
        self.push(report.COLD_PUSH, self.bench.base)
        self.cold_restore()
        for method in self.methods:
            data.link_copy(self.bench.changed, self.source(method))
        self.push(report.CHANGED_PUSH, self.bench.changed)
        self.warm_update()
        self.bumped_push()
        self.working_set(report.SET_NEAR, "near", scattered=False)
        self.working_set(report.SET_FAR, "far", scattered=True)

    def push(self, scenario: str, new: Path, since: int | None = None) -> None:
        """Push every method's copy."""
        names = data.paths(new)
        needed = data.size_of(new, names)
        for method in self.turns(scenario):
            known = self.known(method, new, names) if since is None else {}
            if known and scenario != report.COLD_PUSH:
                known["step"] = "changed"
            self.measure(scenario, method, "push", self.job(method, self.source(method), since=since, **known), needed)

    def cold_restore(self) -> None:
        """Restore into an empty directory. What this leaves for later: our own index segments."""
        names = data.paths(self.bench.base)
        needed = data.size_of(self.bench.base, names)
        for method in self.turns(report.COLD_RESTORE):
            target = self.target(method)
            target.mkdir()
            job = self.job(method, target, source=str(self.bench.tar), **self.known(method, self.bench.base, names))
            if self.measure(report.COLD_RESTORE, method, "pull", job, needed) and method.name != FLOOR:
                data.check(self.bench.base, names, target)
            if (target / OURS).is_dir():
                (target / OURS).rename(self.folder / "segments")
            data.put_away(target)

    def warm_update(self) -> None:
        """Bring a directory that has the base up to date."""
        needed = data.size_of(self.bench.changed, data.paths(self.bench.changed))
        for method in self.turns(report.WARM_UPDATE):
            target = self.target(method)
            data.link_copy(self.bench.base, target)
            data.unlink_copies(target, self.bench.change.rewritten)
            if method.name == OURS:
                (self.folder / "segments").rename(target / OURS)
            if self.measure(report.WARM_UPDATE, method, "pull", self.job(method, target), needed):
                data.check(self.bench.after, data.paths(self.bench.after), target)
            data.put_away(target)

    def bumped_push(self) -> None:
        """Push after a warm build: every mtime is new, nothing else. All copies share their inodes."""
        with self.used(data.paths(self.bench.after)) as since:
            self.push(report.BUMPED_PUSH, self.bench.changed, since)

    def working_set(self, scenario: str, step: str, *, scattered: bool) -> None:
        """Restore what one compile step used; for the others that is a list of files."""
        names = data.working_set(self.bench.after, SHARE, scattered=scattered)
        needed = data.size_of(self.bench.after, names)
        ours = next((method for method in self.methods if method.name == OURS), None)
        if ours:
            with self.used(names) as since:
                run(ours, "push", self.job(ours, self.source(ours), step=step, since=since))
        for method in self.turns(scenario):
            target = self.target(method)
            target.mkdir()
            more = self.known(method, self.bench.after, names) or {"some": None if method is ours else tuple(names)}
            job = self.job(method, target, step=step, **more)
            if self.measure(scenario, method, "pull", job, needed) and method.name != FLOOR:
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
        for method in self.turns(report.REAL_PUSH):
            source, target = self.source(method), self.target(method)
            for name in names:
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(cache / name, source / name)
            target.mkdir()
            self.measure(report.REAL_PUSH, method, "push", self.job(method, source), needed)
            if self.measure(report.REAL_RESTORE, method, "pull", self.job(method, target), needed):
                data.check(cache, names, target, contents=len(names))


@contextmanager
def a_round(bench: Bench, latency: int, number: int, methods: Sequence[Method]) -> Iterator[Round]:
    """Start the servers, which are gone afterwards, and make a folder for one run, which goes with the data."""
    folder = Path(tempfile.mkdtemp(prefix="round-", dir=bench.folder))
    added = ("--latency", str(latency / 1000))
    with closing(GcsServer("--no-md5", *added)) as plain, closing(GcsServer(*added)) as hashing:
        yield Round(bench, latency, number, methods, {False: plain, True: hashing}, folder)


def machine() -> str:
    """Describe this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    text = f"{os.cpu_count()} cores shared with other work, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}"
    return f"{text}, Python {platform.python_version()}"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--latency", default="20,0,50", help="milliseconds added to each request")
    parser.add_argument(
        "--runs", default="5:3:1,3:1:0,3:1:0", help="for each latency: quick, one object a file, gcloud"
    )
    parser.add_argument("--methods", default=",".join(method.name for method in METHODS))
    parser.add_argument("--scale", type=float, default=1.0, help=f"of {ENTRIES} entries")
    parser.add_argument(
        "--real", type=Path, help="a directory that ccache has filled: bytes and seconds of real entries"
    )
    parser.add_argument("--real-is", default="", help="what the real entries are")
    parser.add_argument("--only-real", action="store_true", help="measure nothing but these")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/cache"), help="without a suffix")
    parser.add_argument("--note", action="append", default=[], help="a paragraph for the report")
    parser.add_argument(
        "--add", action="store_true", help="keep what RESULTS.json holds; its session described the data"
    )
    parser.add_argument("--render", action="store_true", help="only make the tables from the JSON")
    return parser.parse_args()


def main() -> None:
    """Measure, write, print."""
    options = parse()
    results: Path = options.results.with_suffix(".json")
    if not options.render:
        session(options, results)
    text = report.render(*report.load(results))
    results.with_suffix(".md").write_text(text)
    print(text)


def session(options: argparse.Namespace, results: Path) -> None:
    """Take all measurements."""
    chosen = options.methods.split(",")
    methods = [method for method in METHODS if method.name in chosen]
    missing = [method.label for method in methods if not method.installed]
    methods = [method for method in methods if method.installed]
    notes = (*options.note, *(f"{label} is not installed here: skipped." for label in missing))
    latencies = [int(text) for text in options.latency.split(",")]
    runs = [[int(n) for n in text.split(":")] for text in options.runs.split(",")]
    began = _now()
    with tempfile.TemporaryDirectory(prefix="imagetiers-bench-", ignore_cleanup_errors=True) as folder:
        bench = prepare(Path(folder), round(ENTRIES * options.scale))
        names = data.paths(bench.base)
        real = f"{options.real_is} {_describe(options.real)}" if options.real else ""
        command = (
            f"python -m benchmarks.cache --latency {options.latency} --runs {options.runs} --scale {options.scale:g}"
        )
        command += (
            " --real DIRECTORY" * bool(options.real) + " --only-real" * options.only_real + " --add" * options.add
        )
        about = report.Session(
            *(machine(), command, began, began, len(names), data.size_of(bench.base, names), real, notes)
        )
        if options.add:
            earlier, bench.measured = report.load(results)
            if (earlier.entries, earlier.bytes) != (about.entries, about.bytes):
                sys.exit(f"{results} was measured with other data: give another --results")
            about = replace(earlier, command=f"{earlier.command}; {command}", real=real or earlier.real)
        for latency, counts in zip(latencies, runs, strict=True):
            for number in range(0 if options.only_real else max(counts)):
                turn = [method for method in methods if number < counts[method.pace]]
                with a_round(bench, latency, number, turn) as this:
                    this.everything()
                report.save(results, replace(about, ended=_now()), bench.measured)
        if options.real:
            for number in range(max(runs[0])):
                turn = [method for method in methods if number < runs[0][method.pace] and method.name != "local"]
                with a_round(bench, latencies[0], number, turn) as this:
                    this.real(options.real)
            report.save(results, replace(about, ended=_now()), bench.measured)


def _describe(cache: Path) -> str:
    names = data.paths(cache)
    return f"{len(names)} entries, {data.size_of(cache, names) / 1e6:.1f} MB."


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


if __name__ == "__main__":
    main()
