"""The table-driven engine with the life of a compile: it runs as its script says, can be stopped, and outlives who began it."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from imagetiers.adapters.locks import FileLocks
from imagetiers.adapters.signals import SignalCancellation
from imagetiers.building.deadline import Deadline
from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.errors import BuildError, Problem
from imagetiers.inputs.repository import load_repository
from imagetiers.operations.compile import compile_wheels
from imagetiers.planning.commands import CALL_LOG, JOB_LOG, STATS_LOG
from imagetiers.planning.containers import BindMount, BuildImage, Container
from imagetiers.planning.labels import Label
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import CompilePlan, TierPlan
from imagetiers.services import ContainerState, OnLine, Services
from imagetiers.session import Session
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.port import Store
from tests.ccache.synthetic import make_entry, make_name, put_entry
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services

DAY = date(2026, 11, 21)
TOOLCHAIN = ("ccache\t4.14.2", f"compiler\tcc\t{'c' * 64}\tcc 14.2")
STOPPED = 143


@dataclass
class Compile:
    """A compile that runs, as its script sees it: the two folders, what it says, and whether it was told to stop."""

    wheels: Path
    ccache: Path
    say: OnLine
    stopped: threading.Event

    def call(self, source: int, seconds: float = 0.0) -> None:
        """Be one call of the compiler through ccache: a hit, if its object is in the directory; else it makes it.

        With `seconds` the launcher and ccache's own log say so, too.
        """
        name = make_name(source)
        hit = self.ccache.joinpath(*name[:2], name[2:]).exists()
        if not hit:
            put_entry(self.ccache, name, make_entry(f"object {source}".encode() * 50), mtime=_now(self.wheels))
        with (self.wheels / STATS_LOG).open("a") as log:
            log.write(f"# {source}.c\n{'direct_cache_hit' if hit else 'cache_miss'}\n")
        with (self.wheels / CALL_LOG).open("a") as log:
            at = f"[2026-11-29T05:14:50.414666 {source} ]"
            log.write(
                f"{at} === CCACHE 4.14.2 STARTED ===\n{at} Source file: {source}.c\n{at} Object file: /b/{source}.o\n"
            )
            log.write(f"{at} Result: {'direct_cache_hit' if hit else 'cache_miss'}\n")
        if seconds and not hit:
            self.ran(f"/b/{source}.o", seconds, 100 << 20)
        self.say(f"[{source}/4] Building {source}.o")

    def ran(self, target: str, seconds: float, peak: int, *, outcome: str = "done") -> None:
        """Write down a run of a compiler, as the launcher does."""
        source = f"{Path(target).stem}.cpp"
        with (self.wheels / JOB_LOG).open("a") as log:
            log.write(
                f"{outcome}\t{seconds}\t{peak}\t{100 << 20}\t{'0' * 16}\t{target}\t{source}\tg++\x1f-c\x1f{source}\n"
            )

    def make_wheel(self, text: str = "a wheel") -> None:
        (self.wheels / "tiny-1-py3-none-any.whl").write_text(text)


def _now(folder: Path) -> int:
    probe = folder / ".now"
    probe.touch()
    mtime = probe.stat().st_mtime_ns
    probe.unlink()
    return mtime


Script = Callable[[Compile], int]


def compiles(job: Compile) -> int:
    """Compile four sources and leave a wheel."""
    for source in range(1, 5):
        job.call(source)
    job.make_wheel()
    return 0


@dataclass
class ScriptedEngine(FakeEngine):
    """FakeEngine whose compiles do what `script` says; `failing` are the lines of a build that fails."""

    script: Script = compiles
    toolchain: tuple[str, ...] = TOOLCHAIN
    failing: tuple[str, ...] = ()
    forgets: bool = False
    builds: list[BuildImage] = field(default_factory=list)
    stops: dict[str, threading.Event] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    stdins: dict[str, bytes | None] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def build(self, build: BuildImage, context: Iterable[bytes], on_line: OnLine, seconds: float | None = None) -> None:
        self.builds.append(build)
        for line in self.failing:
            on_line(line)
        if self.failing:
            raise BuildError(Problem("", "docker buildx build ended with exit code 1"))
        if not self.forgets:
            super().build(build, context, on_line, seconds)

    def start(self, container: Container, files: bytes | None = None, stdin: bytes | None = None) -> str:
        id_ = super().start(container, files, stdin)
        self.stops[id_] = threading.Event()
        self.stdins[id_] = stdin
        if files is not None:
            with tarfile.open(fileobj=io.BytesIO(files)) as tar:
                self.files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        return id_

    def find_containers(self, label: str, value: str) -> tuple[ContainerState, ...]:
        self._up()
        return tuple(
            ContainerState(id_, container.name, id_ not in self.ended, self.ended.get(id_, 0))
            for id_, container in self.started.items()
            if container.labels.get(label) == value
        )

    def follow(self, container_id: str, on_line: OnLine) -> int:
        container = self.started[container_id]
        if Label.COMPILE_KEY not in container.labels:
            for line in self.toolchain:
                on_line(line)
            return 0
        folders = {mount.target: mount.source for mount in container.mounts if isinstance(mount, BindMount)}
        self.made.append("compile")
        job = Compile(folders["/wheels"], folders["/ccache"], on_line, self.stops[container_id])
        self.ended[container_id] = self.script(job)
        return self.ended[container_id]

    def stop(self, container_id: str, grace: int) -> None:
        assert grace > 0
        self.stops[container_id].set()

    def remove(self, container_id: str) -> None:
        super().remove(container_id)
        self.removed.append(container_id)


@dataclass
class Machine:
    """A checkout, an engine and a cache; `settings` are of all its compiles' ccache."""

    layout: Layout
    engine: ScriptedEngine
    store: Store
    console: Shown = field(default_factory=Shown)
    cancel: SignalCancellation = field(default_factory=SignalCancellation)
    trust: Trust = field(default_factory=Trust)

    @property
    def services(self) -> Services:
        locks = FileLocks(self.layout.locks, self.console, self.cancel)
        made = services(self.engine, self.store, self.console)
        return replace(made, locks=locks, cancel=self.cancel)

    @property
    def session(self) -> Session:
        plan = make_plan(load_repository(self.layout, None), DAY)
        return Session(plan, self.layout, self.services, self.trust)

    @property
    def tier(self) -> TierPlan:
        return self.session.plan.tiers["pytorch-clean"]

    @property
    def step(self) -> CompilePlan:
        found = self.tier.compile
        assert found is not None
        return found

    @property
    def said(self) -> str:
        return "\n".join(self.console.lines)

    @property
    def log(self) -> Path:
        return self.layout.log("pytorch-clean", "compile", self.step.key)

    def wheels(self) -> dict[str, str]:
        """Return the finished wheels."""
        return {path.name: path.read_text() for path in self.layout.wheels(self.step.key).glob("*.whl")}

    def compile(self, *, seconds: float | None = None, force: bool = False) -> None:
        session = self.session
        compile_wheels(session, session.plan.tiers["pytorch-clean"], Deadline(seconds), force=force)

    def another(self, layout: Layout) -> Machine:
        """Return a fresh machine with the same cache."""
        return Machine(layout, ScriptedEngine(self.engine.registry, script=self.engine.script), self.store)


def machine(layout: Layout, cache: Path) -> Machine:
    return Machine(layout, ScriptedEngine(FakeRegistry()), DirectoryStore(cache))
