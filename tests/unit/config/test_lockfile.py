"""pipeline.lock.yaml: it is written whole, can be read, and a diff says what changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagetiers.config.layout import Layout
from imagetiers.config.loader import load_config
from imagetiers.config.lockfile import changes, lock_text
from imagetiers.config.yamltree import parse_yaml
from imagetiers.errors import PipelineError, RegistryError
from imagetiers.operations.lock import lock_pins
from imagetiers.planning.observed import Absent, Answer, Present, Unknown
from tests.registry.harness import builder

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
PINS = {"nvidia/cuda:12.4.1-devel": A, "host:5000/base:x": B, "12:30": C}
COMMITS = {"https://x/y#v1": "a" * 40}


def test_the_file_is_written_whole_and_in_one_order() -> None:
    text = f"""\
# Written by `doit lock`, which replaces the whole file: comments do not stay.

# Outside images: reference -> digest.
images:
  "12:30": {C}
  "host:5000/base:x": {B}
  "nvidia/cuda:12.4.1-devel": {A}

# Git refs: repository#ref -> commit.
git:
  "https://x/y#v1": {"a" * 40}
"""

    assert lock_text(PINS, COMMITS) == text
    assert lock_text(dict(reversed(PINS.items())), COMMITS) == text
    assert lock_text({}, {}).endswith("images: {}\n")


@given(
    st.dictionaries(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300), st.just(A))
)
@example({"<<": A})
def test_what_is_written_can_be_read(pins: dict[str, str]) -> None:
    tree = parse_yaml(lock_text(pins, COMMITS).encode(), "pipeline.lock.yaml")

    assert tree.plain() == {"images": pins, "git": COMMITS}


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
        lock_pins(me.session, ["shouting"], check=check, keep=keep)

    with pytest.raises(PipelineError, match=r"pipeline.lock.yaml: is stale:(.|\n)*\+ sha256:aaa"):
        lock(check=True)
    assert not tiny.lock.exists()
    lock()
    assert load_config(tiny, None).pipeline.pins == {"debian:trixie-slim": A}
    assert tiny.lock.read_text() == lock_text({"debian:trixie-slim": A}, {})
    lock(check=True)
    assert "1 pins are up to date" in me.said

    answers["debian:trixie-slim"] = Present(B)
    asked.clear()
    lock(keep=True)
    assert asked == []
    with pytest.raises(PipelineError, match=r"- sha256:aaa(.|\n)*\+ sha256:bbb"):
        lock(check=True)

    tiny.lock.write_text(lock_text({"debian:trixie-slim": A, "debian:of-a-variable": C}, COMMITS))
    lock(keep=True)
    assert tiny.lock.read_text() == lock_text({"debian:trixie-slim": A, "debian:of-a-variable": C}, COMMITS)
    tiny.lock.write_text(lock_text({"debian:of-a-variable": C}, COMMITS))
    lock(keep=True)
    assert tiny.lock.read_text() == lock_text({"debian:trixie-slim": B, "debian:of-a-variable": C}, COMMITS)
    lock()
    assert tiny.lock.read_text() == lock_text({"debian:trixie-slim": B}, {})

    text = tiny.lock.read_text()
    for answer in (Unknown("the registry answers 503"), Absent()):
        answers["debian:trixie-slim"] = answer
        with pytest.raises(RegistryError, match="debian:trixie-slim"):
            lock()
    assert tiny.lock.read_text() == text
    assert [path.name for path in tiny.root.glob(".pipeline.lock*")] == []
