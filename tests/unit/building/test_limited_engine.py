"""A time limit for a Docker daemon that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import cast

import pytest

from imagetiers.building import limited_engine
from imagetiers.building.deadline import Deadline
from imagetiers.building.limited_engine import LimitedEngine
from imagetiers.errors import BuildError, EngineError
from imagetiers.planning.containers import Container
from imagetiers.services import Engine
from tests.waiting import PATIENCE

CONTAINER = Container(name="c", image="i", argv=("true",), user="0:0", env={})


class Silent:
    """A daemon that answers when it is let go, and what was asked of it by then."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.removed = threading.Event()

    def start(self, _container: Container, _files: bytes | None, _stdin: bytes | None) -> str:
        self.let_go.wait(60)
        return "id"

    def remove(self, _container_id: str) -> None:
        self.let_go.wait(60)
        self.removed.set()

    def wait(self, *_: object) -> None:
        self.let_go.wait(60)

    info = images = has_image = tag = untag = stored = build_cache = prune_build_cache = find_containers = stop = wait


CALLS: dict[str, Callable[[Engine], object]] = {
    "info": lambda engine: engine.info(),
    "images": lambda engine: engine.images(),
    "has_image": lambda engine: engine.has_image("x"),
    "tag": lambda engine: engine.tag("x", ("y",)),
    "untag": lambda engine: engine.untag("x"),
    "stored": lambda engine: engine.stored(),
    "build_cache": lambda engine: engine.build_cache(),
    "prune_build_cache": lambda engine: engine.prune_build_cache(["x"]),
    "find_containers": lambda engine: engine.find_containers("x", "y"),
    "start": lambda engine: engine.start(CONTAINER),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_daemon_that_does_not_answer_is_waited_for_until_the_time_is_over(call: str) -> None:
    silent, deadline, began = Silent(), Deadline(0.1), time.monotonic()
    engine = deadline.limited_engine(cast("Engine", silent), "compile:x")
    with pytest.raises(
        BuildError, match="compile:x: was not done after 0 s and was stopped: the Docker daemon did not"
    ):
        CALLS[call](engine)
    assert time.monotonic() - began < 30
    assert deadline.reached
    silent.let_go.set()


def test_a_container_that_starts_after_that_is_removed() -> None:
    silent = Silent()
    with pytest.raises(BuildError):
        Deadline(0.1).limited_engine(cast("Engine", silent), "compile:x").start(CONTAINER)
    assert not silent.removed.is_set()
    silent.let_go.set()
    assert silent.removed.wait(30)


@pytest.mark.parametrize("when", ["while it is started", "when it has started"])
def test_a_container_that_nobody_has_yet_is_removed_by_a_ctrl_c(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The process ends then, and with it the thread that would have removed the container."""
    silent = Silent()

    def interrupted(_seconds: float, call: Callable[[], object]) -> object:
        starting = threading.Thread(target=call, daemon=True)
        starting.start()
        if when == "when it has started":
            silent.let_go.set()
            starting.join(PATIENCE)
        else:
            threading.Timer(0.2, silent.let_go.set).start()
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(limited_engine, "answer_within", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Deadline(600.0).limited_engine(cast("Engine", silent), "verify:x").start(CONTAINER)
    assert silent.removed.is_set()


@pytest.mark.parametrize("call", ["stop", "remove"])
def test_a_container_is_ended_also_when_the_time_is_over_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(limited_engine, "_AFTER", 0.2)
    silent = Silent()
    engine = Deadline(0.0).limited_engine(cast("Engine", silent), "compile:x")
    calls: dict[str, Callable[[], None]] = {
        "stop": lambda: engine.stop("id", 10),
        "remove": lambda: engine.remove("id"),
    }
    with pytest.raises(EngineError, match="the Docker daemon did not answer before the time was over"):
        calls[call]()
    silent.let_go.set()
    calls[call]()


def test_without_a_limit_the_engine_is_the_engine() -> None:
    engine = cast("Engine", Silent())
    assert Deadline(None).limited_engine(engine, "compile:x") is engine
    assert isinstance(Deadline(1.0).limited_engine(engine, "compile:x"), LimitedEngine)
