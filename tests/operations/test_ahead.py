"""Beside what is run in an image runs what will be run in the next ones; what did not pass beside others is run alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.errors import BuildError, EngineError, ImagetiersError, Problem
from imagetiers.inputs.repository import load_repository
from imagetiers.operations.ahead import begin_checks
from imagetiers.operations.image import ensure_image
from imagetiers.operations.verify import verify_image
from imagetiers.planning.containers import BuildImage, Container
from imagetiers.planning.labels import Label
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import ImageInfo
from imagetiers.services import EngineInfo, OnLine
from imagetiers.session import Session
from imagetiers.stores.directory import DirectoryStore
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services, write_pipeline, write_tier
from tests.waiting import PATIENCE

TIERS = ("one", "two", "three", "four")


@dataclass
class Busy(FakeEngine):
    """An engine that notes which checks run side by side, and on which processors; each waits at `gates` of its tier."""

    cpus: int = 2
    memory: int = 16 << 30
    cpusets: bool = True
    ran: list[tuple[str, str]] = field(default_factory=list)
    beside: set[frozenset[str]] = field(default_factory=set)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    says: dict[str, Callable[[bool], str]] = field(default_factory=dict)
    refuses_cpus: bool = False
    stops: dict[str, threading.Event] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    fails_to_build: list[BuildError] = field(default_factory=list)

    def build(self, build: BuildImage, context: Iterable[bytes], on_line: OnLine, seconds: float | None = None) -> None:
        if self.fails_to_build:
            raise self.fails_to_build.pop()
        super().build(build, context, on_line, seconds)

    def info(self) -> EngineInfo:
        return EngineInfo("29.0", self.cpus, self.memory, cpusets=self.cpusets)

    def start(self, container: Container, files: bytes | None = None, stdin: bytes | None = None) -> str:
        if self.refuses_cpus and container.cpus:
            raise EngineError.of("docker", "Requested CPUs are not available")
        with self.lock:
            id_ = super().start(container, files, stdin)
            self.stops[id_] = threading.Event()
            self.ran.append((container.labels[Label.TIER], container.cpus))
            self.beside.add(frozenset(each.labels[Label.TIER] for each in self.started.values()))
        return id_

    def follow(self, container_id: str, on_line: OnLine) -> int:
        container, stop = self.started[container_id], self.stops[container_id]
        tier, mark = container.labels[Label.TIER], container.env["IMAGETIERS_MARK"]
        gate = self.gates.get(tier)
        while gate is not None and not gate.is_set() and not stop.is_set():
            time.sleep(0.005)
        if stop.is_set():
            return 143
        line = self.says.get(tier, _well)(len(self.started) > 1)
        for text in (f"{mark} begin {tier}", line, f"{mark} end {int(line.startswith('FAIL'))}", f"{mark} done"):
            on_line(text)
        return 0

    def stop(self, container_id: str, grace: int) -> None:  # noqa: ARG002
        self.stops[container_id].set()

    def remove(self, container_id: str) -> None:
        with self.lock:
            super().remove(container_id)


def _well(_crowded: bool) -> str:  # noqa: FBT001
    return "ok   it is well"


@dataclass
class Machine:
    """Four images, none the other's parent, that a doit checks one after the other."""

    session: Session
    engine: Busy
    console: Shown
    threads: ThreadPoolExecutor

    def verify(self, *names: str, limit: float | None = None, force: bool = False) -> str:
        """Check these; return what is wrong with the first that fails."""
        for name in names or TIERS:
            try:
                verify_image(self.session, self.session.plan.tiers[name], along=TIERS, limit=limit, force=force)
            except ImagetiersError as error:
                return str(error)
        return ""

    def begin(self, *names: str, limit: float | None = None) -> Future[str]:
        """Check these in another thread."""
        return self.threads.submit(self.verify, *names, limit=limit)

    def wait_for(self, *names: str) -> None:
        """Wait until the checks of these have begun."""
        self.wait_until(lambda: set(names) <= {tier for tier, _ in self.engine.ran})

    @staticmethod
    def wait_until(holds: Callable[[], bool]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    engine, console = Busy(FakeRegistry()), Shown()
    tiers = {name: write_tier(tmp_path, name, compiles=False, checked=True, parent=None) for name in TIERS}
    write_pipeline(tmp_path, tiers, registry=False)
    layout = Layout(tmp_path)
    plan = make_plan(load_repository(layout, None), date(2026, 11, 30))
    session = Session(plan, layout, services(engine, DirectoryStore(tmp_path / "cache"), console), Trust())
    for number, tier in enumerate(plan.tiers.values()):
        made = ImageInfo(
            f"sha256:{number:064}", (tier.ref,), plan.pipeline.name, "", tier.name, tier.key, 2000, 80, trust="trusted"
        )
        engine.add(made, tier.ref)
    with ThreadPoolExecutor(1) as threads:
        yield Machine(session, engine, console, threads)
        for gate in engine.gates.values():
            gate.set()
    session.background.end()
    assert engine.started == {}, "no container is left"


def test_the_last_one_runs_beside_the_first_and_each_has_processors_of_its_own(machine: Machine) -> None:
    machine.engine.gates["one"] = threading.Event()
    run = machine.begin()
    machine.wait_for("one", "two", "three", "four")
    machine.engine.gates["one"].set()
    assert run.result(PATIENCE) == ""

    assert machine.engine.ran[:2] in ([("one", "0"), ("four", "1")], [("four", "1"), ("one", "0")])
    assert machine.engine.ran[2:] == [("three", "1"), ("two", "1")], "as soon as there is room, and each once"
    assert all(len(each) <= 2 for each in machine.engine.beside)
    assert all(tier.tags[-1] in machine.engine.refs for tier in machine.session.plan.tiers.values())


@pytest.mark.parametrize(
    "lacks", [{"cpus": 1}, {"memory": 3 << 30}, {"cpusets": False}], ids=["processors", "memory", "cpusets"]
)
def test_without_room_each_waits_for_its_turn(machine: Machine, lacks: dict[str, int]) -> None:
    for name, value in lacks.items():
        setattr(machine.engine, name, value)

    assert machine.verify() == ""

    assert machine.engine.ran == [(name, "") for name in TIERS]
    assert machine.engine.beside == {frozenset({name}) for name in TIERS}


def test_a_large_machine_is_divided_among_four(machine: Machine) -> None:
    machine.engine.cpus = 30
    gates = machine.engine.gates = {name: threading.Event() for name in TIERS}
    run = machine.begin()
    machine.wait_for(*TIERS)
    for gate in gates.values():
        gate.set()
    assert run.result(PATIENCE) == ""

    assert sorted(cpus for _, cpus in machine.engine.ran) == ["0-6", "15-21", "22-29", "7-14"]


def test_what_fails_beside_others_is_asked_again_alone(machine: Machine) -> None:
    machine.engine.says = {
        name: lambda crowded: "FAIL no room" if crowded else "ok   alone" for name in ("one", "four")
    }
    gates = machine.engine.gates = {name: threading.Event() for name in ("one", "three", "four")}
    run = machine.begin("one")
    machine.wait_for("one", "four")
    gates["four"].set()
    machine.wait_for("three")
    gates["one"].set()
    assert run.result(PATIENCE) == ""
    gates["three"].set()
    assert machine.verify("two", "three", "four") == ""

    told = "verify:one: not all has passed beside the checks of other images, so it is run again, alone"
    assert told in machine.console.lines
    alone = [(tier, cpus) for tier, cpus in machine.engine.ran if not cpus]
    assert alone == [("one", ""), ("two", ""), ("three", ""), ("four", "")], "nothing more is begun ahead"


def test_what_fails_alone_has_failed(machine: Machine) -> None:
    machine.engine.says["four"] = lambda _: "FAIL it is broken"

    assert machine.verify("one", "two", "three") == ""
    assert "1 of 1 checks of images/four/verify.py failed:\n    FAIL it is broken" in machine.verify("four")
    assert [cpus for tier, cpus in machine.engine.ran if tier == "four"] == ["1", ""]


def test_an_engine_that_has_no_such_processors_runs_each_in_turn(machine: Machine) -> None:
    machine.engine.refuses_cpus = True

    assert machine.verify() == ""
    assert machine.engine.ran == [(name, "") for name in TIERS]


def test_a_doit_that_ends_early_ends_what_it_has_begun(machine: Machine) -> None:
    machine.engine.says["one"] = lambda _: "FAIL it is broken"
    machine.engine.gates["four"] = threading.Event()
    machine.engine.gates["one"] = threading.Event()
    run = machine.begin("one")
    machine.wait_for("one", "four")
    machine.session.background.end()
    assert [container.labels[Label.TIER] for container in machine.engine.started.values()] == ["one"]
    machine.engine.gates["one"].set()
    assert "FAIL it is broken" in run.result(PATIENCE)
    assert {tier for tier, _ in machine.engine.ran} == {"one", "four"}


def test_what_has_passed_before_is_not_run(machine: Machine) -> None:
    plan = machine.session.plan
    assert machine.verify("four") == ""
    machine.session = replace(machine.session, plan=plan, background=type(machine.session.background)())

    assert machine.verify() == ""

    assert [tier for tier, _ in machine.engine.ran].count("four") == 1


def test_what_is_asked_for_anew_runs_beside_others_too(machine: Machine) -> None:
    machine.engine.cpus = 1
    assert machine.verify() == ""
    machine.session = replace(machine.session, background=type(machine.session.background)())
    machine.engine.cpus, machine.engine.ran = 2, []

    assert machine.verify(force=True) == ""

    assert [tier for tier, _ in machine.engine.ran] == list(TIERS), "nobody has run what has passed ahead"
    assert not any("alone" in line for line in machine.console.lines)


def test_time_that_is_short_is_not_shared_to_its_end(machine: Machine) -> None:
    gates = machine.engine.gates = {name: threading.Event() for name in ("one", "two", "three", "four")}
    half = time.monotonic() + 2.5
    run = machine.begin("one", limit=6.0)
    machine.wait_for("one", "four")
    machine.wait_until(lambda: time.monotonic() > half and len(machine.engine.started) == 1)
    assert [container.labels[Label.TIER] for container in machine.engine.started.values()] == ["one"]
    gates["one"].set()
    assert run.result(PATIENCE) == ""


def test_checks_of_what_was_built_run_beside_the_builds_of_others(machine: Machine) -> None:
    gate = machine.engine.gates["one"] = threading.Event()
    one = machine.session.plan.tiers["one"]
    begin_checks(machine.session, one, f"sha256:{0:064}")
    machine.wait_for("one")
    gate.set()
    assert machine.verify() == ""

    assert machine.engine.ran[0] == ("one", "1")
    assert sorted(tier for tier, _ in machine.engine.ran) == sorted(TIERS), "each once"


def test_nothing_begins_beside_builds_on_a_machine_without_room(machine: Machine) -> None:
    machine.engine.cpus = 1
    begin_checks(machine.session, machine.session.plan.tiers["one"], f"sha256:{0:064}")
    assert machine.verify() == ""
    assert machine.engine.ran == [(name, "") for name in TIERS]


@pytest.mark.parametrize("beside", [True, False])
def test_a_build_that_is_killed_beside_checks_is_made_again_alone(machine: Machine, *, beside: bool) -> None:
    killed = BuildError(Problem("buildx", "process did not complete successfully: exit code: 137"))
    machine.engine.fails_to_build = [killed]
    machine.engine.gates["one"] = threading.Event()
    plan = machine.session.plan
    if beside:
        begin_checks(machine.session, plan.tiers["one"], f"sha256:{0:064}")
        machine.wait_for("one")
        built = ensure_image(machine.session, plan.tiers["two"], force=True)
        assert built is not None
        assert machine.engine.started == {}, "it was alone"
        assert "image:two: was killed beside checks, so it is built again, alone" in machine.console.lines
        machine.engine.gates["one"].set()
        assert machine.verify() == ""
    else:
        with pytest.raises(BuildError, match="exit code: 137"):
            ensure_image(machine.session, plan.tiers["two"], force=True)


def test_a_build_that_fails_by_itself_has_failed(machine: Machine) -> None:
    machine.engine.fails_to_build = [BuildError(Problem("buildx", "exit code: 1"))]
    machine.engine.gates["one"] = threading.Event()
    begin_checks(machine.session, machine.session.plan.tiers["one"], f"sha256:{0:064}")
    machine.wait_for("one")
    with pytest.raises(BuildError, match="exit code: 1"):
        ensure_image(machine.session, machine.session.plan.tiers["two"], force=True)
    assert len(machine.engine.started) == 1, "the checks go on"
