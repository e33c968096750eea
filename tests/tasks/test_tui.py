"""doit tui, driven by textual's pilot: each screen as a picture, and a real doit that is asked for, run, stopped and left."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagetiers.adapters.process import Child
from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.services import OnLine
from imagetiers.session import Session
from imagetiers.stores.directory import DirectoryStore
from imagetiers.tui.app import TiersApp
from imagetiers.tui.dialogs import Ask, Leave
from imagetiers.tui.panes import PANES
from tests.conftest import HERE, Golden
from tests.engine.conftest import Checkout
from tests.operations.engine import DAY
from tests.planning.world import FakeEngine, FakeRegistry, Shown, services
from tests.waiting import PATIENCE

SIZE = (110, 30)


@pytest.fixture
def session(offline: Checkout, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Three tiers, the first of which has a record and a log; a doit of their checkout has no engine."""
    for name, value in {**offline.env, "PYTHONPATH": str(HERE.parent)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    layout = Layout(offline.root)
    plan = make_plan(load_repository(layout, None), DAY)
    engine = FakeEngine(FakeRegistry())
    store = DirectoryStore(offline.root / ".imagetiers" / "cache")
    made = Session(plan, layout, services(engine, store, Shown()), Trust())
    tier = plan.tiers["pytorch-clean"]
    record = {
        "kind": "compile", "tier": tier.name, "key": "c" * 64, "began": 2400.0, "seconds": 300.0, "hits": 5, "misses": 1,
        "pipeline": "tiny", "change": "compile cold",
    }  # fmt: skip
    store.write(f"records/{tier.name}/compile/2400-{'c' * 12}.json", json.dumps(record).encode())
    log = layout.log(tier.name, "compile", "c" * 64)
    log.parent.mkdir(parents=True)
    log.write_text("[1/6] Building one\n")
    return made


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing moves by itself, so that a picture is the same each time."""
    monkeypatch.setattr("textual.constants.TEXTUAL_ANIMATIONS", "none")


async def settle(app: TiersApp, done: Callable[[], object]) -> None:
    for _ in range(int(PATIENCE * 20)):
        looking = [each for each in app.workers if each.group in {"look", "pane"} and not each.is_finished]
        if not looking and done():
            return
        await asyncio.sleep(0.05)
    names = (*PANES, "log", "doit")
    raise AssertionError({name: text_of(app, name) for name in names})


def picture(app: TiersApp, golden: Golden, name: str) -> None:
    golden(re.sub(r"terminal-\d+", "terminal", app.export_screenshot()), HERE / "golden" / "tui" / f"{name}.svg")


def text_of(app: TiersApp, name: str) -> str:
    shown = app.query_one(f"#{name}-text")
    lines = getattr(shown, "lines", None)
    if lines is not None and name in {"log", "doit"}:
        return "\n".join(strip.text for strip in lines)
    return "\n".join(strip.text for strip in shown.render_lines(shown.region.reset_offset))


def test_each_pane(session: Session, golden: Golden) -> None:
    async def look() -> None:
        app = TiersApp(session)
        async with app.run_test(size=SIZE) as pilot:
            await settle(app, lambda: "debian" not in text_of(app, "state") and "absent" in text_of(app, "state"))
            await pilot.pause()
            picture(app, golden, "state")
            for name, word in {
                "inputs": "source.txt", "why": "pytorch-clean", "layers": "no image", "checks": "not passed", "scan": "unknown",
                "gpus": "no device code", "records": "83 %",
            }.items():  # fmt: skip
                app.query_one("#panes").active = name  # type: ignore[attr-defined]  # textual's TabbedContent
                await settle(app, lambda name=name, word=word: word in text_of(app, name))  # type: ignore[misc]
            picture(app, golden, "records")
            app.query_one("#panes").active = "log"  # type: ignore[attr-defined]
            await settle(app, lambda: "[1/6] Building one" in text_of(app, "log"))
            with session.layout.log("pytorch-clean", "compile", "c" * 64).open("a") as log:
                log.write("[2/6] Building two\n[3/6] half a li")
            await settle(app, lambda: "[2/6] Building two" in text_of(app, "log"))
            assert "half" not in text_of(app, "log")

    asyncio.run(look())
    assert set(PANES) == {"state", "inputs", "why", "layers", "checks", "scan", "gpus", "records"}


class Doit:
    """Runs what is asked for, or another program, and keeps what it was asked."""

    def __init__(self, words: tuple[str, ...] = ()) -> None:
        self._words = words
        self.child: Child | None = None
        self.argv: tuple[str, ...] = ()

    def __call__(self, argv: tuple[str, ...], folder: Path, on_line: OnLine) -> Child:
        self.argv = argv
        self.child = Child(self._words or argv, folder, on_line)
        return self.child


def test_a_key_shows_its_command_and_runs_it(session: Session, golden: Golden) -> None:
    doit = Doit()

    async def use() -> None:
        app = TiersApp(session, doit)
        async with app.run_test(size=SIZE) as pilot:
            await settle(app, lambda: "absent" in text_of(app, "state"))
            await pilot.press("down", "b")
            await settle(app, lambda: isinstance(app.screen, Ask))
            await pilot.pause()
            picture(app, golden, "ask")
            await pilot.press("escape")
            assert doit.child is None
            await pilot.press("p")
            await settle(app, lambda: isinstance(app.screen, Ask))
            await pilot.press("enter")
            await settle(app, lambda: "exit code" in text_of(app, "doit"))
            assert "$ doit plan" in text_of(app, "doit")
            assert "arr-training" in text_of(app, "doit")

    asyncio.run(use())
    assert doit.argv == (sys.executable, "-m", "doit", "plan")


@pytest.mark.parametrize(
    ("key", "words"),
    [("s", ("setup",)), ("S", ("setup", "--yes")), ("t", ("teardown",)), ("T", ("teardown", "--yes"))],
)
def test_what_it_needs_outside_is_set_up_and_taken_down(session: Session, key: str, words: tuple[str, ...]) -> None:
    doit = Doit((sys.executable, "-c", "print('it ran')"))

    async def use() -> None:
        app = TiersApp(session, doit)
        async with app.run_test(size=SIZE) as pilot:
            await settle(app, lambda: "absent" in text_of(app, "state"))
            await pilot.press(key)
            await settle(app, lambda: isinstance(app.screen, Ask))
            assert doit.child is None, "the command is shown before it runs"
            await pilot.press("enter")
            await settle(app, lambda: "exit code" in text_of(app, "doit"))
            assert f"$ doit {' '.join(words)}" in text_of(app, "doit")

    asyncio.run(use())
    assert doit.argv == (sys.executable, "-m", "doit", *words)


def test_on_80_columns_long_lines_are_wrapped_and_every_key_is_named(session: Session) -> None:
    doit = Doit((sys.executable, "-c", "import os; print('word ' * 20 + 'end'); os.kill(os.getpid(), 15)"))

    async def use() -> None:
        app = TiersApp(session, doit)
        async with app.run_test(size=(80, 24)) as pilot:
            await settle(app, lambda: "absent" in text_of(app, "state"))
            await pilot.press("v")
            await pilot.press("enter")
            await settle(app, lambda: "ended by SIGTERM" in text_of(app, "doit"))
            lines = text_of(app, "doit").splitlines()
            room = app.query_one("#doit-text").size.width
            assert max(len(line.rstrip()) for line in lines) <= room < 60
            assert any(line.rstrip().endswith("end") for line in lines)
            foot = app.export_screenshot().replace("&#160;", " ")
            assert all(word in foot for word in ("plan", "set up", "refresh", "quit"))

    asyncio.run(use())


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["", "in a shell's background"])
def begun_with(request: pytest.FixtureRequest) -> Iterator[None]:
    """What this process does on a SIGINT, and with it what it begins: a shell's background jobs begin with it ignored."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("begun_with")
def test_leaving_asks_while_something_runs(session: Session, golden: Golden) -> None:
    # It takes SIGINT over, as doit does.
    program = (
        "import signal,sys,time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('runs', flush=True)\ntry: time.sleep(3600)\nexcept KeyboardInterrupt: sys.exit(130)"
    )
    doit = Doit((sys.executable, "-c", program))

    async def use() -> None:
        app = TiersApp(session, doit)
        async with app.run_test(size=SIZE) as pilot:
            await settle(app, lambda: "absent" in text_of(app, "state"))
            await pilot.press("v")
            await pilot.press("enter")
            await settle(app, lambda: "runs" in text_of(app, "doit"))
            await pilot.press("q")
            await settle(app, lambda: isinstance(app.screen, Leave))
            await pilot.pause()
            picture(app, golden, "leave")
            await pilot.press("escape")
            assert doit.child is not None
            assert os.getpgid(doit.child.pid) == os.getpgid(0), "a terminal that goes takes it along"
            await pilot.press("q")
            await pilot.press("s")
            for _ in range(int(PATIENCE * 20)):
                if not app.is_running:
                    break
                await asyncio.sleep(0.05)
            assert not app.is_running

    asyncio.run(use())
    assert doit.child is not None
    assert doit.child.wait() == 130
