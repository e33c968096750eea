"""Nothing that is shown moves a cursor, and no table cuts a tier's name before all else is gone."""

from __future__ import annotations

import io
import json
import pty
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from imagetiers.adapters.console import RichConsole
from imagetiers.adapters.display import BuildDisplay, ToldConsole
from imagetiers.config.layout import Layout
from imagetiers.events import RunEnded, TaskEnded
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.forecast import TierForecast
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import Plan
from imagetiers.report.forecast import forecast_table
from imagetiers.report.status import status_table
from imagetiers.report.tables import plan_table, titled
from imagetiers.visible import visible, visible_json
from tests.conftest import HERE, Golden, statuses_of, tiers_of

HOSTILE = "a\x1b]0;title\x07b\x9b2Jc\u202ed\u2066e\rf\x00g\u2028h\ud800i\U000e0041j\u200bk\x7f"


def test_what_a_terminal_obeys_is_written_out() -> None:
    assert visible(HOSTILE) == (r"a\x1b]0;title\x07b\x9b2Jc\u202ed\u2066e\rf\0g\u2028h\ud800i\U000e0041j\u200bk\x7f")
    assert visible("\x1b[1;31merror:\x1b[0m x\n\tkept, with 日本語, é, 👩\u200d🔧 and नमस\u200dते") == (
        "error: x\n\tkept, with 日本語, é, 👩\u200d🔧 and नमस\u200dते"
    )


@given(st.text())
def test_json_means_the_same(text: str) -> None:
    shown = visible_json(json.dumps({"text": text}, ensure_ascii=False))

    assert json.loads(shown) == {"text": text}
    assert visible(shown) == shown


@given(st.text(st.characters()))
def test_once_is_enough(text: str) -> None:
    shown = visible(text)

    assert visible(shown) == shown
    assert all(
        character.isprintable() or character in "\n\t\u200c\u200d" or ord(character) > 127 for character in shown
    )


def _console(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, **env: str) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", out)
    for name, value in {"NO_COLOR": "", "TERM": "xterm", "COLUMNS": "80", **env}.items():
        monkeypatch.setenv(name, value)
    return out


def _hostile_run(console: RichConsole) -> None:
    told = ToldConsole(console, BuildDisplay(console))
    with told.progress(HOSTILE, Path("log")) as bar:
        bar.update(1, 2, f"[/x] {HOSTILE}")
        told.line(f"above: {HOSTILE}")
        time.sleep(0.6)  # the display draws once
    told.events(TaskEnded("compile:x", "failed", 1.0, HOSTILE))
    told.events(RunEnded(1.0, 0, 0, 1))


@pytest.mark.parametrize("terminal", [True, False])
def test_the_console_lets_nothing_through(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    plan = make_plan(load_repository(Layout(HERE / "repos" / "tiny"), None), date(2026, 11, 21))
    out = _console(monkeypatch, terminal=terminal)
    console = RichConsole()
    table = titled(plan, f"title {HOSTILE}")
    table.add_column("tier")
    table.add_row(Text(HOSTILE))
    table.add_row("[red]not markup[/red] [/x] :smile:")

    console.line(HOSTILE)
    console.print(table)
    _hostile_run(console)

    text = out.getvalue()
    for character in "\x07\x9b\u202e\u2066\x00\u2028\ud800\u200b\x7f":
        assert character not in text
    assert "\x1b]" not in text
    assert r"\x1b]0;title" in text
    assert "[/x] :smile:" in text


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_means_no_escape_at_all(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(load_repository(Layout(HERE / "repos" / "tiny"), None), date(2026, 11, 21))
    out = _console(monkeypatch, terminal=True, **env)
    console = RichConsole()

    console.print(_status(plan, {}))
    _hostile_run(console)

    assert "pytorch-clean" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def _status(plan: Plan, warmth: dict[str, str]) -> object:
    return status_table(plan, ObservedState(), statuses_of(plan, ObservedState()), 0, warmth)


def _rendered(renderable: object, width: int, *, terminal: bool = True) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None, legacy_windows=False)
    console.print(renderable, crop=False)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


@pytest.fixture
def plan() -> Plan:
    return make_plan(load_repository(Layout(HERE / "repos" / "tiny"), None), date(2026, 11, 21))


def test_the_tiers_name_is_the_last_column_to_go(plan: Plan, golden: Golden) -> None:
    decisions = tiers_of(plan, ObservedState())
    tier_forecasts = {name: TierForecast(name, (), (), {}, unknown=True) for name in plan.tiers}
    texts = []
    for width in (100, 60, 40, 20, 8):
        tables = (
            plan_table(plan, decisions),
            forecast_table(plan, tier_forecasts, 2),
            status_table(
                plan,
                ObservedState(),
                statuses_of(plan, ObservedState()),
                0,
                {"pytorch-clean": "compiled in 4 s, 0 % hits"},
            ),
        )
        texts += [f"== {width}\n{_rendered(table, width)}\n" for table in tables]

    golden("\n".join(texts), HERE / "golden" / "narrow.txt")
    assert all(name in text for text in texts[:12] for name in plan.tiers)


def test_a_pipe_gets_every_column(plan: Plan) -> None:
    text = _rendered(
        _status(plan, {"pytorch-clean": "x" * 200}),
        40,
        terminal=False,
    )

    assert "wheels" in text
    assert "…" not in text


def test_the_display_on_a_real_terminal_takes_brackets_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal, open(ours, "rb", buffering=0) as screen:  # noqa: PTH123  descriptors
        monkeypatch.setattr(sys, "stdout", terminal)
        for name, value in {"NO_COLOR": "", "TERM": "xterm", "COLUMNS": "100"}.items():
            monkeypatch.setenv(name, value)
        console = RichConsole()
        told = ToldConsole(console, BuildDisplay(console))
        with told.progress("compile:x") as bar:
            bar.update(1, 2, "lib[/x].o \x1b]0;title\x07")
            time.sleep(1.2)  # the display draws twice
        told.events(RunEnded(1.0, 1, 0, 0))
        terminal.flush()
        shown = screen.read(65536)

    assert b"lib[/x].o \\x1b]0;title\\x07" in shown
    assert b"\x1b]" not in shown
