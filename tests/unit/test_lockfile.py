"""pipeline.lock.yaml: what is written can be read, nothing else changes, and a diff says what did."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.loader import load_config
from imagetiers.config.lockfile import changes, with_pins
from imagetiers.config.yamltree import parse_yaml
from imagetiers.errors import PipelineError, RegistryError
from imagetiers.operations.lock import lock_pins
from imagetiers.planning.observed import Absent, Answer, Present, Unknown
from tests.registry.harness import builder

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
FILE = f"""\
# Pinned by hand, on a Monday.
images:  # outside images
  # the devel image
  nvidia/cuda:12.4.1-devel: {A}  # as on the node
  'host:5000/base:x': {B}

  gone:1: {C}
"""


def test_comments_and_order_stay() -> None:
    text = with_pins(FILE, {"nvidia/cuda:12.4.1-devel": B, "host:5000/base:x": B, "debian:trixie-slim": C})

    assert (
        text
        == f"""\
# Pinned by hand, on a Monday.
images:  # outside images
  # the devel image
  nvidia/cuda:12.4.1-devel: {B}  # as on the node
  'host:5000/base:x': {B}
  debian:trixie-slim: {C}
"""
    )


@pytest.mark.parametrize(
    "before",
    [
        "",
        "images: {}\n",
        "# only a comment\n",
        f"images: {{a:1: {A}}}\n",
        f"images:\n  a:1: {A}\n",
        "images: {} # none",
    ],
)
def test_whatever_there_was_the_result_can_be_read(before: str) -> None:
    pins = {"debian:trixie-slim": A, "127.0.0.1:5000/base/debian:x": B}
    for wanted in (pins, {}, pins):
        before = with_pins(before, wanted)
        assert parse_yaml(before.encode(), "pipeline.lock.yaml").at(("images",)).plain() == wanted
    assert with_pins(before, pins) == before


def test_changes() -> None:
    told = changes({"a": A, "b": B}, {"a": C, "c": C})

    assert [str(change) for change in told] == [f"  a\n    - {A}\n    + {C}", f"  b\n    - {B}", f"  c\n    + {C}"]


def test_lock(tiny: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = builder(tiny.root, "", tmp_path / "cache")
    answers: dict[str, Answer] = {"debian:trixie-slim": Present(A)}
    asked: list[str] = []

    def look_up(refs: list[str]) -> dict[str, Answer]:
        asked.extend(refs)
        return {ref: answers[ref] for ref in refs}

    monkeypatch.setattr(me.services.registry, "look_up", look_up)

    def lock(*, check: bool = False, keep: bool = False) -> None:
        lock_pins(tiny, ["shouting"], me.services, check=check, keep=keep)

    with pytest.raises(PipelineError, match=r"pipeline.lock.yaml: is stale:(.|\n)*\+ sha256:aaa"):
        lock(check=True)
    assert not tiny.lock.exists()
    lock()
    assert load_config(tiny, None).pipeline.pins == {"debian:trixie-slim": A}
    lock(check=True)
    assert "1 pins are up to date" in me.said

    answers["debian:trixie-slim"] = Present(B)
    asked.clear()
    lock(keep=True)
    assert asked == []
    with pytest.raises(PipelineError, match=r"- sha256:aaa(.|\n)*\+ sha256:bbb"):
        lock(check=True)

    text = tiny.lock.read_text()
    for answer in (Unknown("the registry answers 503"), Absent()):
        answers["debian:trixie-slim"] = answer
        with pytest.raises(RegistryError, match="debian:trixie-slim"):
            lock()
    assert tiny.lock.read_text() == text
    assert [path.name for path in tiny.root.glob(".pipeline.lock*")] == []
