from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from imagetiers.later import later


class Thing:
    def __init__(self, name: str = "") -> None:
        self.name = name

    def said(self) -> str:
        return f"I am {self.name}"


def test_it_is_made_at_the_first_use_and_once() -> None:
    made = []
    both = threading.Barrier(2)

    def make() -> Thing:
        made.append("made")
        return Thing("it")

    thing = later(make)
    assert made == []

    def ask(_: int) -> str:
        both.wait()
        return thing.said()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, range(2))) == ["I am it", "I am it"]
    assert made == ["made"]


def test_another_process_gets_the_thing_itself() -> None:
    again = pickle.loads(pickle.dumps(later(lambda: Thing("pickled"))))  # noqa: S301
    assert type(again) is Thing
    assert again.name == "pickled"


def test_what_cannot_be_made_is_said_at_each_use() -> None:
    def make() -> Thing:
        raise OSError("not there")

    thing = later(make)
    for _ in range(2):
        with pytest.raises(OSError, match="not there"):
            thing.said()
