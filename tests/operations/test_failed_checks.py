"""What a check of an image has found wrong is seen the day after, and is never more than that: no run is decided by it."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.errors import UnavailableError, VerifyError
from imagetiers.inputs.repository import load_repository
from imagetiers.judging.outcome import FailedCheck, FailedVerdict
from imagetiers.operations.gc_cache import Part, read_cache
from imagetiers.operations.report import look_back, write_report
from imagetiers.operations.status import Status, look, show_status
from imagetiers.operations.verify import verify_image
from imagetiers.planning.containers import Container
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import ImageInfo
from imagetiers.planning.plan import TierPlan
from imagetiers.report.page.model import BuildState, TierView
from imagetiers.services import OnLine
from imagetiers.session import Session
from imagetiers.state.failures import failure_name, keep_failure, last_failure
from imagetiers.state.observe import mark_forced, observe
from imagetiers.state.records import Record, keep
from imagetiers.state.registry import passed_before, verdict_name
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.names import name_to_path
from imagetiers.tui.panes import Shown as ShownTier
from imagetiers.tui.panes import pane
from tests.conftest import HERE, Golden
from tests.operations.engine import DAY
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services
from tests.unit.report.test_page import HOSTILE, Page

NAME = "arr-base"
IMAGE = "sha256:" + "1" * 64
SCHEMA = json.loads((HERE.parent / "schemas" / "status.schema.json").read_text())
BRANCH = Trust(trusted=False, branch="topic")


@dataclass
class Checking(FakeEngine):
    """An engine whose image says `lines` when its tier's script runs; with `hangs`, nothing, until it is stopped."""

    lines: tuple[str, ...] = ("ok   it is well",)
    hangs: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)

    def follow(self, container_id: str, on_line: OnLine) -> int:
        env = self.started[container_id].env
        mark = env["IMAGETIERS_MARK"]
        self.made.append("verify")
        if self.hangs:
            assert self.stopped.wait(30)
            return 137
        on_line(f"{mark} begin {NAME}")
        for line in self.lines:
            on_line(line)
        on_line(f"{mark} end {int(any(line.startswith('FAIL') for line in self.lines))}")
        on_line(f"{mark} begin pytorch-clean")
        on_line("ok   its parent is well")
        on_line(f"{mark} end 0")
        on_line(f"{mark} done")
        return 0

    def start(self, container: Container, files: bytes | None = None, stdin: bytes | None = None) -> str:
        self.stopped.clear()
        return super().start(container, files, stdin)

    def stop(self, container_id: str, grace: int) -> None:  # noqa: ARG002
        self.stopped.set()


@dataclass
class Machine:
    """A checkout with an image of the second tier, and a cache that it may share."""

    layout: Layout
    store: DirectoryStore
    engine: Checking = field(default_factory=lambda: Checking(FakeRegistry()))
    trust: Trust = field(default_factory=Trust)
    console: Shown = field(default_factory=Shown)

    def __post_init__(self) -> None:
        self.image(IMAGE)

    @property
    def session(self) -> Session:
        plan = make_plan(load_repository(self.layout, None), DAY)
        return Session(plan, self.layout, services(self.engine, self.store, self.console), self.trust)

    @property
    def tier(self) -> TierPlan:
        return self.session.plan.tiers[NAME]

    def image(self, id_: str) -> None:
        """Let the tier's key have this image."""
        tier, pipeline = self.tier, self.session.plan.pipeline.name
        made = ImageInfo(id_, (tier.ref,), pipeline, "", NAME, tier.key, 2000, 80_000_000, trust=self.trust.label)
        self.engine.add(made, tier.ref)

    def verify(self, *lines: str, force: bool = False, limit: float | None = None) -> str:
        """Check it; return what is wrong."""
        self.engine.lines = lines
        try:
            verify_image(self.session, self.tier, force=force, limit=limit)
        except VerifyError as error:
            return str(error)
        return ""

    def status(self) -> Status:
        return look(self.session, ask=False)

    def failed(self) -> FailedVerdict | None:
        """Return what status says has failed; `doit report` says the same."""
        found = self.status().failures.get(NAME)
        assert self.reported().failed == found
        return found

    def reported(self) -> TierView:
        record = Record("image", NAME, self.tier.key, 2000.0, 10.0, image=IMAGE, size=80_000_000)
        keep(self.session, self.tier.key_document, replace(record, pipeline=self.session.plan.pipeline.name))
        return next(tier for tier in look_back(self.session, since=None).tiers if tier.name == NAME)

    def another(self, root: Path, trust: Trust | None = None) -> Machine:
        """Return one with the same image and the same cache, that has checked nothing yet."""
        shutil.copytree(self.layout.root, root, ignore=shutil.ignore_patterns(".imagetiers"))
        trust = trust or Trust()
        made = Machine(Layout(root, apart=trust.prefix), self.store, trust=trust)
        made.engine.byid[IMAGE] = self.engine.byid[IMAGE]
        return made

    def older(self, name: str) -> None:
        """Let an object be ten seconds older: a file's time has steps."""
        path = self.store.root / "objects" / name_to_path(name)
        at = path.stat().st_mtime - 10
        os.utime(path, (at, at))

    def names(self) -> set[str]:
        return {blob.name for blob in self.store.list() if "verdicts" in blob.name.split("/")}


@pytest.fixture
def machine(tiny: Layout, tmp_path: Path) -> Machine:
    return Machine(tiny, DirectoryStore(tmp_path / "cache"))


def shown(renderables: list[object], width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None, legacy_windows=False)
    for each in renderables:
        console.print(each)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_it_is_seen_the_day_after(machine: Machine, tmp_path: Path, golden: Golden) -> None:
    said = machine.verify("ok   one", "FAIL torch: No module named 'torch'", "FAIL its user is root")

    assert "2 of 3 checks of images/arr-base/verify.py failed" in said
    status = machine.status()
    assert not status.seen.verified(machine.tier)
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None, legacy_windows=False)
    session = machine.session
    printing = replace(
        session, services=replace(session.services, console=type("Printing", (Shown,), {"print": console.print})())
    )
    show_status(printing, ask=False)
    assert isinstance(console.file, io.StringIO)
    tier = ShownTier(machine.session, machine.tier, status)
    page = machine.reported()
    assert page.state is BuildState.FAILED
    write_report(machine.session, to=tmp_path / "report.html", since=None)
    words = " ".join(" ".join(Page((tmp_path / "report.html").read_text()).words).split())
    assert "arr-base " in words
    assert "✕ failed" in words
    report = words[words.index("Failed checks of") : words.index(" Last build", words.index("Failed checks of"))]
    panes = [f"== doit tui: {name}\n{shown(pane(name, tier))}\n" for name in ("state", "checks")]
    table = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
    golden(
        "\n".join([f"== doit status\n{table}\n", *panes, f"== doit report\n{report}\n"]),
        HERE / "golden" / "failed-checks.txt",
    )


def test_programs_are_told(machine: Machine, tmp_path: Path) -> None:
    machine.verify("FAIL torch: No module named 'torch'")
    show_status(machine.session, to=str(tmp_path / "status.json"), ask=False)

    document = json.loads((tmp_path / "status.json").read_text())
    jsonschema.validate(document, SCHEMA)
    found = {tier["tier"]: (tier["verified"], tier["failed"]) for tier in document["tiers"]}
    check = {"tier": NAME, "check": "torch", "line": "No module named 'torch'"}
    assert found == {
        "pytorch-clean": (False, None),
        NAME: (False, {"at": 3000, "by": "trusted", "checks": [check], "more": 0}),
        "arr-training": (False, None),
    }


def test_it_never_counts_as_passed_and_stops_no_later_run(machine: Machine) -> None:
    machine.verify("FAIL two")
    (name,) = machine.names()

    assert name == failure_name(machine.tier, IMAGE, Trust())
    assert passed_before(machine.session, machine.tier, IMAGE) is None
    assert not observe(machine.session).verified(machine.tier)
    assert machine.tier.tags[0] not in machine.engine.refs
    machine.store.write(verdict_name(machine.tier, IMAGE, Trust()), machine.store.read(name)[0])
    assert passed_before(machine.session, machine.tier, IMAGE) is None, "not even where a verdict should be"
    assert "1 of 1 checks" in machine.verify("FAIL two")
    assert machine.engine.made == ["verify", "verify"]
    assert machine.verify("ok   two") == ""
    assert machine.engine.made == ["verify"] * 3


def test_it_is_gone_when_the_image_passes(machine: Machine, tmp_path: Path) -> None:
    second = machine.another(tmp_path / "second")
    machine.verify("FAIL two")
    assert str(machine.failed()) == str(second.failed()) == "checks failed: two"

    assert second.verify("ok   two") == ""
    assert second.failed() is None
    assert machine.failed() is None, "it has no verdict of its own, and the cache's counts"
    assert second.reported().state is BuildState.VERIFIED


def test_of_an_image_that_has_passed_the_later_word_is_shown_and_the_verdict_counts(machine: Machine) -> None:
    assert machine.verify("ok   two") == ""
    machine.older(verdict_name(machine.tier, IMAGE, Trust()))
    mark_forced(machine.layout, f"verify:{NAME}")
    machine.verify("FAIL two", force=True)

    assert str(machine.failed()) == "checks failed: two"
    assert observe(machine.session).verified(machine.tier)
    assert machine.reported().state is BuildState.VERIFIED
    machine.older(failure_name(machine.tier, IMAGE, Trust()))
    assert machine.verify("ok   two", force=True) == ""
    assert machine.failed() is None


def test_it_is_of_one_image_and_of_these_checks(machine: Machine) -> None:
    machine.verify("FAIL two")
    script = machine.layout.root / "images" / NAME / "verify.py"
    text = script.read_text()
    script.write_text(text + "# another\n")
    assert machine.status().failures == {}

    script.write_text(text)
    assert NAME in machine.status().failures
    machine.image("sha256:" + "2" * 64)
    assert machine.status().failures == {}


def test_an_untrusted_builds_is_seen_by_itself_alone_and_says_so(machine: Machine, tmp_path: Path) -> None:
    topic = machine.another(tmp_path / "topic", BRANCH)
    other = machine.another(tmp_path / "other", replace(BRANCH, branch="other"))
    topic.verify("FAIL two")

    assert machine.names() == {f"untrusted/topic/{failure_name(machine.tier, IMAGE, Trust())}"}
    found = topic.failed()
    assert found is not None
    assert found.by == "untrusted/topic"
    assert machine.failed() is None
    assert other.failed() is None

    for name in machine.names():
        machine.older(name)
    machine.verify("FAIL three")
    for each in (machine, topic, other):
        found = each.failed()
        assert found is not None
        assert (found.by, found.checks[0].check) == ("trusted", "three")
    machine.older(failure_name(machine.tier, IMAGE, Trust()))
    assert topic.verify("ok   two") == ""
    assert topic.failed() is None
    assert machine.failed() is not None, "a branch takes back nothing of a trusted build's"


def test_secrets_are_masked_before_anything_is_cut(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = machine.layout.root / "pipeline.yaml"
    pipeline.write_text(
        pipeline.read_text().replace("verify: {params", "secrets: {token: {env: TOKEN}}\n    verify: {params")
    )
    assert "secrets" in pipeline.read_text()
    machine.image(IMAGE)
    monkeypatch.setenv("TOKEN", "tok-3f9a61c2")
    machine.verify("FAIL tok-3f9a61c2: it printed tok-3f9a61c2", f"FAIL {'x' * 394}tok-3f9a61c2")

    (name,) = machine.names()
    kept = machine.store.read(name)[0].decode()
    assert "tok-" not in kept
    rows = json.loads(kept)["failed"]
    assert rows[0] == [NAME, "***", "it printed ***"]
    assert rows[1][2] == "x" * 394 + "***"

    monkeypatch.delenv("TOKEN")
    assert "checks of" in machine.verify("FAIL two"), "a secret that is not here is nobody's to see, and no error"
    assert str(machine.failed()) == "checks failed: two"


def test_it_is_kept_within_bounds(machine: Machine) -> None:
    failed = [FailedCheck(NAME, f"check {number}" * 1000, "long " * 10_000) for number in range(500)]
    keep_failure(machine.session, machine.tier, IMAGE, failed)

    (name,) = machine.names()
    assert len(machine.store.read(name)[0]) < 64 << 10
    found = machine.failed()
    assert found is not None
    assert (len(found.checks), found.more) == (50, 450)
    assert str(found).endswith(" (+499)")


def test_what_is_no_failure_says_nothing_and_what_one_holds_is_text(machine: Machine, tmp_path: Path) -> None:
    machine.verify("FAIL two")
    (name,) = machine.names()
    good = json.loads(machine.store.read(name)[0])
    wrong: list[dict[str, object]] = [
        *({**good, field: value} for field, value in {"passed": True, "at": "now", "failed": [], "more": -1}.items()),
        {**good, "at": 1e300},
        {**good, "failed": [[1, 2, 3], "text", ["only"]]},
        {},
    ]
    for document in wrong:
        machine.store.write(name, json.dumps(document).encode())
        assert machine.failed() is None, document
    for data in (b"", b"\xff", b"[" * 100_000):
        machine.store.write(name, data)
        assert machine.failed() is None, data[:9]

    machine.store.write(name, json.dumps({**good, "failed": [[HOSTILE] * 3]}).encode())
    status = machine.status()
    show_status(machine.session, ask=False)
    panes = shown(pane("checks", ShownTier(machine.session, machine.tier, status)))
    write_report(machine.session, to=tmp_path / "report.html", since=None)
    for text in (*machine.console.tables, *machine.console.lines, panes):
        assert not {"\x1b", "\u202e"} & set(text)
    machine.reported()
    write_report(machine.session, to=tmp_path / "report.html", since=None)
    page = Page((tmp_path / "report.html").read_text())
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert sum("<script>alert(1)</script>" in text for text in page.words) == 3


def test_a_cache_that_takes_nothing_costs_a_line_and_not_the_error(machine: Machine) -> None:
    name = failure_name(machine.tier, IMAGE, Trust())
    folder = (machine.store.root / "objects" / name_to_path(name)).parent
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where a folder should be")

    assert "1 of 1 checks" in machine.verify("FAIL two")
    assert any("what has failed was not kept in the cache" in line for line in machine.console.lines)


def test_checks_that_were_out_of_time_have_not_passed_either(machine: Machine) -> None:
    machine.engine.hangs = True
    assert "was not done after 1 s" in machine.verify(limit=1.0)

    found = machine.failed()
    assert found is not None
    assert str(found) == "checks failed: unfinished"
    assert "was not done after 1 s" in found.checks[0].line


def test_a_cache_that_does_not_answer_costs_a_note(machine: Machine) -> None:
    class Silent(DirectoryStore):
        def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:  # noqa: ARG002
            raise UnavailableError.of(name, "does not answer")

    machine.store = Silent(machine.store.root)
    status = machine.status()

    assert status.failures == {}
    assert any("does not say" in note for note in status.notes)


def test_it_goes_with_the_key_of_its_image(machine: Machine) -> None:
    machine.verify("FAIL two")
    (name,) = machine.names()
    part = Part(machine.store, Trust(), None)

    used = read_cache(part, {machine.tier.key[:12]}, keep=0, old=2e9)
    unused = read_cache(part, set(), keep=0, old=2e9)

    assert name in used.needed
    assert name not in unused.needed
    assert [item.kind for item in unused.items if item.name == name] == ["verdicts"]


def test_nothing_is_asked_of_the_cache_for_images_that_have_passed(machine: Machine) -> None:
    asked: list[str] = []

    class Counting(DirectoryStore):
        def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
            asked.append(name)
            return super().read(name, start=start, length=length)

    assert machine.verify("ok   two") == ""
    machine.store = Counting(machine.store.root)
    machine.status()
    assert not [name for name in asked if "failed" in name]
    assert last_failure(machine.session, machine.tier, IMAGE, passed=True) is None
