"""`doit --events`: what happens, as JSON under a schema, however the run ends."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from imagetiers.adapters.event_log import EventLog
from imagetiers.events import Line, Progressed, encode
from tests.engine.conftest import REPO, Checkout

SCHEMA = json.loads((REPO / "schemas" / "events.schema.json").read_text(encoding="utf-8"))


def read(text: str) -> list[dict[str, Any]]:
    """Read events, each of which is what the schema says."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        jsonschema.validate(event, SCHEMA)
    return events


def test_a_run_that_fails(offline: Checkout) -> None:
    run = offline.doit("--continue", "--events", "events.jsonl", "verify")

    events = read((offline.root / "events.jsonl").read_text(encoding="ascii"))
    first, *_, last = events
    assert (first["event"], first["pipeline"], first["words"][-1]) == ("run began", "tiny", "verify")
    ended = {event["task"]: event for event in events if event["event"] == "task ended"}
    assert run.code == 2, run.text
    assert ended["compile:pytorch-clean"]["outcome"] == "failed"
    assert ended["compile:pytorch-clean"]["error"].startswith("docker: no Docker daemon is here")
    assert (last["event"], last["done"]) == ("run ended", 0)
    assert last["failed"] == len(ended)
    assert all(a["at"] <= b["at"] for a, b in pairwise(events))


def test_on_the_standard_output_is_nothing_else(offline: Checkout) -> None:
    run = offline.doit("--events", "-", "check")

    events = read(run.out)
    assert run.code == 0, run.text
    assert [event["event"] for event in events][:2] == ["run began", "task began"]
    assert events[-1] | {"at": 0, "seconds": 0} == {
        "format": 1, "at": 0, "event": "run ended", "seconds": 0, "done": 1, "up_to_date": 0, "failed": 0,
    }  # fmt: skip
    lines = [event["text"] for event in events if event["event"] == "line"]
    assert lines
    assert all(line in run.err for line in lines)


@pytest.mark.parametrize("path", ["no-such/folder/events", ""])
def test_a_file_that_cannot_be(path: str, offline: Checkout) -> None:
    run = offline.doit(f"--events={path}", "check")

    assert (run.code, run.out) == (3, "")
    assert run.err.splitlines()[1].startswith("--events")


def test_a_run_that_is_refused_has_ended(offline: Checkout) -> None:
    run = offline.doit("--events", "events.jsonl", "push")

    assert run.code == 3, run.text
    events = read((offline.root / "events.jsonl").read_text(encoding="ascii"))
    assert [event["event"] for event in events] == ["run began", "run ended"]


def test_a_disk_that_is_full_costs_the_events_alone(capsys: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    log = EventLog.open(str(full))

    log(Line("one"))
    log(Line("two"))

    assert capsys.readouterr().err == "--events: /dev/full: No space left on device: no more events are written\n"


def test_a_reader_that_has_gone(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    log = EventLog(writing, "the pipe", clock=lambda: 5.0)
    log(Line("read"))
    assert read(os.read(reading, 1000).decode())[0]["text"] == "read"
    os.close(reading)

    log(Line("unread"))
    log(Line("unread"))

    assert capsys.readouterr().err == "--events: the pipe: Broken pipe: no more events are written\n"


def test_nothing_in_a_line_moves_a_cursor() -> None:
    line = encode(Progressed("\x1b]0;title\x07", 1, 2, "\u202e\x9b"), 1.0)

    assert line.isascii()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert json.loads(line)["note"] == "\u202e\x9b"
