"""Whatever the pipeline, and whatever is here, in the cache and in the registry: doit runs what `doit plan` has announced.

The real plan, printed and as JSON, and the real tasks, run by the real doit; only what lies behind Services is made up.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.planning.decide import decide, pushes, will_run
from imagetiers.planning.observed import ImageInfo
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.session import Session
from imagetiers.state import wheels
from imagetiers.state.observe import keep_verdict, mark_forced, observe
from imagetiers.state.registry import publication_name, verdict_name
from imagetiers.tasks.doit_plugins import Reporter
from imagetiers.tasks.tasks import Tasks
from tests.conftest import HERE
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services, sha256, write_pipeline, write_tier
from tests.soak.memory import MemoryStore

OTHERS = Trust(trusted=False, branch="others")
NOTHING: frozenset[str] = frozenset()
VERBS = ("compile", "image", "verify", "push", "pull")
TASK = re.compile(rf"\b(?:{'|'.join(VERBS)}):[a-z0-9-]+")


@dataclass(frozen=True)
class TierCase:
    """A tier, and what there is of it. `parent` is a number among the tiers before it, if there is that many."""

    parent: int | None = None
    compiles: bool = False
    in_parent: bool = False
    checked: bool = True
    local: str = "good"
    tags_here: bool = True
    wheels: frozenset[str] = frozenset({"here"})
    verdicts: frozenset[tuple[str, str]] = frozenset({("here", "good")})
    registry: str = "published"
    tags_there: bool = True
    forgotten: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Case:
    """A pipeline in a world, and the tasks that doit is asked for; none: the default ones."""

    tiers: tuple[TierCase, ...] = (TierCase(compiles=True), TierCase(parent=0), TierCase(parent=1))
    registry: bool = False
    trusted: bool = True
    down: bool = False
    asked: tuple[str, ...] = ()


def subsets(*words: Any) -> st.SearchStrategy[frozenset[Any]]:
    # Most often nothing: states in which one thing is out of place are the telling ones.
    return st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from(words), max_size=2))


LOCAL = ("good", "pulled", "none", "foreign", "others", "older")
REGISTRY = (
    "published", "unrecorded", "absent", "another", "removed", "overwritten", "lost", "foreign", "evicted", "silent",
)  # fmt: skip
KNOWN = [(where, what) for where in ("here", "cache") for what in ("good", "another")]
TIERS = st.builds(
    TierCase,
    parent=st.one_of(st.none(), st.integers(0, 2)),
    compiles=st.booleans(),
    in_parent=st.booleans(),
    checked=st.booleans(),
    local=st.sampled_from(LOCAL),
    tags_here=st.booleans(),
    wheels=subsets("here", "cache"),
    verdicts=st.one_of(st.just(frozenset(KNOWN)), st.frozensets(st.sampled_from(KNOWN))),
    registry=st.sampled_from(REGISTRY),
    tags_there=st.booleans(),
    forgotten=subsets(*VERBS),
)
WORDS = ("compile", "image", "verify", "push", "image:t0", "verify:t1", "compile:t0")
# What is built in the same run is here when its pull has its turn, so pull comes alone.
ASKED = st.one_of(st.just(()), st.just(("pull",)), st.lists(st.sampled_from(WORDS), max_size=6).map(tuple))
CASES = st.builds(
    Case,
    tiers=st.lists(TIERS, min_size=1, max_size=4).map(tuple),
    registry=st.booleans(),
    trusted=st.booleans(),
    down=st.sampled_from([False, False, False, True]),
    asked=ASKED,
)


@dataclass
class Ran:
    """What a doit did: its exit code, the tasks that ended well and those that failed, what was printed."""

    code: int = 0
    good: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    out: str = ""


class World:
    """A case, furnished. Each doit is a new Tasks, as it is a new process for its users."""

    def __init__(self, root: Path, case: Case) -> None:
        self.trust = Trust() if case.trusted else Trust(trusted=False, branch="mine")
        self.root = root
        self.engine = FakeEngine(FakeRegistry())
        self.store = MemoryStore(lambda: 3000.0)
        self.console = Shown()
        names = [f"t{number}" for number in range(len(case.tiers))]
        tiers = {}
        for name, tier in zip(names, case.tiers, strict=True):
            before = [other for other in names if other < name]
            parent = before[tier.parent] if tier.parent is not None and tier.parent < len(before) else None
            tiers[name] = write_tier(
                root, name, compiles=tier.compiles, checked=tier.checked, parent=parent, in_parent=tier.in_parent
            )
        write_pipeline(root, tiers, registry=case.registry)
        self.services = services(self.engine, self.store, self.console)
        tasks = self.tasks()
        self.plan: Plan = tasks.invocation.plan
        self.layout: Layout = tasks.invocation.layout
        for name, tier in zip(names, case.tiers, strict=True):
            self._furnish(self.plan.tiers[name], tier)
        self.engine.down = case.down

    @property
    def session(self) -> Session:
        return Session(self.plan, self.layout, self.services, self.trust)

    def tasks(self) -> Tasks:
        variables = {} if self.trust.trusted else {"trust": "untrusted", "branch": "mine"}
        return Tasks(self.root, variables.get, lambda *_: self.services)

    def _furnish(self, tier: TierPlan, case: TierCase) -> None:
        good, another = (self._image(tier, word) for word in ("good", "another"))
        images = {"good": good, "another": another}
        if case.local in {"good", "pulled"}:
            digests = (f"{tier.repository}@{sha256(f'manifest of {good.id}')}",) if case.local == "pulled" else ()
            self.engine.add(replace(good, digests=digests), tier.ref, *(tier.tags if case.tags_here else ()))
        elif case.local == "foreign":
            self.engine.add(self._image(tier, "foreign", key="f" * 64), tier.ref)
        elif case.local == "others":
            self.engine.add(self._image(tier, "others", trust=OTHERS.label), tier.ref)
        elif case.local == "older":
            self.engine.add(self._image(tier, "older", key="e" * 64), f"{tier.repository}:older")
        for where, what in case.verdicts:
            if where == "here":
                keep_verdict(self.layout, images[what].id, tier.verify.check)
            else:
                self.store.write(verdict_name(tier, images[what].id, Trust()), b'{"passed": true}')
        if tier.compile is not None:
            self._make_wheels(tier.compile.key, case.wheels)
        self._publish(tier, case, images)
        for verb in case.forgotten:
            if verb != "compile" or tier.compile is not None:
                mark_forced(self.layout, f"{verb}:{tier.name}")

    def _image(self, tier: TierPlan, word: str, *, key: str = "", trust: str = "trusted") -> ImageInfo:
        manifest = "" if key else tier.key_document.json()
        id_ = sha256(f"{word} {tier.name}")
        return ImageInfo(id_, (), "tiny", "", tier.name, key or tier.key, 1000, 100, manifest, trust)

    def _make_wheels(self, key: str, where: frozenset[str]) -> None:
        if not where:
            return
        partial = self.layout.partial_wheels(key)
        partial.mkdir(parents=True)
        (partial / "tiny-1-py3-none-any.whl").write_text("a wheel")
        wheels.commit(self.layout, key, "compile")
        if "cache" in where:
            wheels.publish(replace(self.session, trust=Trust()), key)
        if "here" not in where:
            wheels.forget(self.layout, key)

    def _publish(self, tier: TierPlan, case: TierCase, images: Mapping[str, ImageInfo]) -> None:
        registry, found = self.engine.registry, case.registry
        digests = {name: sha256(f"manifest of {image.id}") for name, image in images.items()}
        if found in {"published", "unrecorded", "removed", "overwritten"}:
            registry.put(tier.repository, images["good"])
        if found in {"another", "lost"}:
            registry.put(tier.repository, images["another"])
        pointer = {"published": "good", "unrecorded": "good", "another": "another", "lost": "another"}.get(found)
        if pointer is not None:
            registry.pointers[tier.ref] = digests[pointer]
        if found in {"overwritten", "foreign"}:
            foreign = self._image(tier, "foreign", key="f" * 64)
            registry.pointers[tier.ref] = registry.put(tier.repository, foreign)
        record = {"another": "another"}.get(found, "good" if found not in {"absent", "unrecorded", "foreign"} else "")
        if record and found != "silent":
            document = {"key": tier.key, "digest": digests[record], "at": 1}
            self.store.write(publication_name(tier), json.dumps(document).encode())
        if found == "silent":
            registry.silent.add(tier.ref)
        if case.tags_there and registry.manifests.get(tier.repository):
            digest = digests["another" if found in {"another", "lost"} else "good"]
            registry.pointers |= dict.fromkeys(tier.tags, digest)

    def doit(self, *args: str) -> Ran:
        """Run doit as dodo.py makes it, but for a reporter that keeps what the tasks did, too."""
        ran, tasks = Ran(), self.tasks()

        class Keeping(Reporter):
            def add_success(self, task: Any) -> None:
                ran.good.append(task.name)
                super().add_success(task)  # type: ignore[no-untyped-call]

            def add_failure(self, task: Any, fail: Any) -> None:
                ran.failed[task.name] = f"{type(fail).__name__}: {fail.get_msg()}"
                super().add_failure(task, fail)

        module = {
            "DOIT_CONFIG": tasks.config | {"reporter": Keeping},
            "task_plan": tasks.plan,
            "task__summary": tasks.summary,
        } | {f"task_{verb}": getattr(tasks, verb) for verb in VERBS}
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            main = DoitMain(ModuleTaskLoader(module), config_filenames=[str(HERE.parent / "pyproject.toml")])
            ran.code = main.run(["run", "--output-file", str(self.root / "out.txt"), *args])
        assert "Traceback" not in err.getvalue(), err.getvalue()
        ran.out = out.getvalue()
        ran.good = [task for task in ran.good if TASK.fullmatch(task)]
        return ran

    def announced(self) -> tuple[dict[str, tuple[str, ...]], dict[str, str | None]]:
        """Return what `doit plan` says will run, by tier, and its reasons by task. The table must say the same."""
        document = json.loads(self.doit("plan", "--json", "-").out)
        self.console.tables.clear()
        assert self.doit("plan").code == 0
        table = self.console.tables[0]
        runs = {tier["tier"]: tuple(tier["runs"]) for tier in document["tiers"]}
        assert sorted(TASK.findall(table)) == sorted(task for some in runs.values() for task in some), table
        return runs, {task: text for tier in document["tiers"] for task, text in tier["reasons"].items()}


def check(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), case)
        runs, reasons = world.announced()
        seen = observe(world.session)
        decisions = decide(world.plan, seen)
        assert reasons == {task: None if reason is None else str(reason) for task, reason in decisions.items()}
        asked = tuple(
            name
            for name in case.asked
            if (name in VERBS or name in reasons) and (name != "push" or pushes(world.plan, world.trust))
        )
        announced = (
            will_run(world.plan, decisions, asked) if asked else tuple(t for some in runs.values() for t in some)
        )
        world.engine.made.clear()

        ran = world.doit("--continue", *asked)

        # Finished wheels are taken from the cache also for an image of which nobody can tell.
        fetched = {
            task
            for task in ran.good
            if task.startswith("compile:") and (why := decisions[task]) is not None and why.fails
        }
        assert set(ran.good) - fetched == set(announced), ran
        for task, told in ran.failed.items():
            reason = decisions.get(task)
            waited = told.startswith("UnmetDependency") or "was not done, since" in told
            assert waited or (reason is not None and reason.fails), (task, told)
        built = sorted(name for name in world.engine.made if name.startswith("image:"))
        assert built == sorted(name for name in announced if name.startswith("image:"))
        assert (ran.code == 0) == (not ran.failed)
        if not asked and not ran.failed:
            assert set(world.announced()[0].values()) <= {()}, "what has run need not run again"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(CASES)
@example(Case(tiers=(TierCase(compiles=True, tags_here=False),)))
@example(Case(tiers=(TierCase(), TierCase(parent=0, forgotten=frozenset({"verify"})))))
@example(Case(tiers=(TierCase(compiles=True, forgotten=frozenset({"compile"})),), asked=("compile",)))
@example(Case(tiers=(TierCase(compiles=True, wheels=NOTHING),), asked=("image", "image", "compile")))
@example(Case(tiers=(TierCase(forgotten=frozenset({"pull"})),), registry=True, asked=("pull",)))
@example(Case(tiers=(TierCase(local="none", forgotten=frozenset({"image"})),), registry=True, down=True))
@example(
    Case(
        tiers=(TierCase(compiles=True, wheels=NOTHING, registry="silent", forgotten=frozenset({"image"})),),
        registry=True,
    )
)
@example(Case(tiers=(TierCase(compiles=True, wheels=NOTHING, registry="silent"),), registry=True, asked=("compile",)))
@example(
    Case(
        tiers=(TierCase(local="none"), TierCase(parent=0, compiles=True, in_parent=True, wheels=NOTHING)),
        asked=("compile",),
    )
)
@example(
    Case(
        tiers=(
            TierCase(local="none", registry="silent"),
            TierCase(parent=0, compiles=True, in_parent=True, wheels=NOTHING, local="none", registry="absent"),
        ),
        registry=True,
    )
)
def test_doit_runs_what_the_plan_announces(case: Case) -> None:
    check(case)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(CASES)
def test_doit_runs_what_many_plans_announce(case: Case) -> None:
    check(case)


def test_a_failed_check_keeps_an_image_from_the_registry(tmp_path: Path) -> None:
    world = World(
        tmp_path, Case(tiers=(TierCase(local="none", verdicts=frozenset(), registry="absent"),), registry=True)
    )
    world.engine.broken.add("t0")

    ran = world.doit("--continue")

    assert world.engine.made == ["image:t0", "verify:t0"]
    assert ran.failed["push:t0"] == "TaskFailed: push:t0: was not done, since verify:t0 failed\n"


def test_a_pull_that_is_asked_for_replaces_what_is_here(tmp_path: Path) -> None:
    world = World(tmp_path, Case(tiers=(TierCase(local="good", registry="another"),), registry=True))
    tier = world.plan.tiers["t0"]
    ours = world.engine.refs[tier.ref]

    assert world.doit("pull").good == []
    assert world.doit("pull:t0", "--rebuild").good == ["pull:t0"]
    assert world.engine.refs[tier.ref] != ours
    assert {world.engine.refs[tag] for tag in tier.tags} == {world.engine.refs[tier.ref]}


def test_what_was_forgotten_and_will_not_run_is_said(tmp_path: Path) -> None:
    world = World(tmp_path, Case(tiers=(TierCase(compiles=True, forgotten=frozenset({"compile"})),)))

    assert world.doit("plan").code == 0
    assert world.console.lines == ["compile:t0: doit forget was asked; it runs with the next doit compile:t0"]
    document = json.loads(world.doit("plan", "--json", "-").out)
    assert document["notes"] == world.console.lines
    assert document["tiers"][0]["reasons"]["compile:t0"] == "doit forget was asked"


def test_what_would_refuse_the_run_is_said(tmp_path: Path) -> None:
    world = World(tmp_path, Case(tiers=(TierCase(),), registry=True))
    dockerfile = world.root / "images" / "t0" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + "ENV API_TOKEN=1234\n")

    assert world.doit("plan").code == 0
    head, (refused, *_) = "that would be refused, and nothing would run:", world.console.lines[1:]
    assert world.console.lines[0] == head
    assert refused.startswith("images/t0/Dockerfile:")
    assert json.loads(world.doit("plan", "--json", "-").out)["notes"][0] == head
    assert world.doit("push").code == 3
    assert not world.engine.made
