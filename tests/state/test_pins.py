"""What pinned images are by now: from a real registry, once an hour, and unknown where nobody answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.lockfile import lock_text
from imagetiers.planning.pins import PinState
from imagetiers.state.pins import pin_states
from tests.registry.harness import Builder, builder, upload
from tests.registry.server import RegistryServer

NOW = 1_000_000.0


class Base:
    """A pipeline whose base is pinned, on a registry that the test can move."""

    def __init__(self, layout: Layout, host: str, cache: Path) -> None:
        self.host, self.cache, self.layout = host, cache, layout
        self.ref = f"{host}/base/drifting:1"
        text = layout.pipeline.read_text().replace("debian:trixie-slim", self.ref)
        layout.pipeline.write_text(text)
        self.pin(upload(host, "base/drifting", "1", b'{"first": 1}'))

    def pin(self, digest: str) -> None:
        self.pinned = digest
        self.layout.lock.write_text(lock_text({self.ref: digest}, {}))
        self.me: Builder = builder(self.layout.root, "", self.cache)

    def move(self) -> str:
        return upload(self.host, "base/drifting", "1", b'{"second": 2}')

    def at(self, now: float, *, ask: bool = True) -> PinState | None:
        session = self.me.session
        session = replace(session, services=replace(session.services, now=lambda: now))
        found = pin_states(session, ask=ask).get("pytorch-clean", ())
        return found[0] if found else None


@pytest.fixture
def base(tiny: Layout, registry_server: RegistryServer, tmp_path: Path) -> Base:
    return Base(tiny, registry_server.host, tmp_path / "cache")


def test_a_tag_that_moves_is_seen_within_the_hour(base: Base) -> None:
    assert base.at(NOW, ask=False) is None, "nothing is remembered yet"
    assert base.at(NOW) == PinState(base.ref, base.pinned, base.pinned, NOW)
    moved = base.move()
    assert base.at(NOW + 3599) == PinState(base.ref, base.pinned, base.pinned, NOW)
    assert base.at(NOW + 3600, ask=False) is None, "what is older says nothing"
    assert base.at(NOW + 3600) == PinState(base.ref, base.pinned, moved, NOW + 3600)
    base.pin(moved)
    found = base.at(NOW + 3700, ask=False)
    assert found is not None
    assert found.moved is False, "after doit lock nobody has to be asked"


def test_a_clock_that_was_put_back_asks_again(base: Base) -> None:
    base.at(NOW)
    moved = base.move()
    found = base.at(NOW - 10)
    assert found is not None
    assert found.now == moved


def test_nobody_answers(base: Base) -> None:
    base.ref = "127.0.0.1:1/base/drifting:1"
    base.layout.pipeline.write_text(base.layout.pipeline.read_text().replace(f"{base.host}/base", "127.0.0.1:1/base"))
    base.pin(base.pinned)
    found = base.at(NOW)
    assert found is not None
    assert (found.now, found.moved, found.at) == (None, None, NOW)
    assert found.unknown
    assert base.at(NOW + 299, ask=False) == found
    assert base.at(NOW + 300, ask=False) is None, "who was offline may soon not be"


def test_what_is_not_pinned_has_nothing_to_drift_from(base: Base) -> None:
    base.layout.lock.unlink()
    base.me = builder(base.layout.root, "", base.cache)
    assert base.at(NOW) is None
    assert not (base.layout.state / "pins").exists()


def test_a_memory_that_somebody_else_may_have_written_is_none(base: Base) -> None:
    base.at(NOW)
    memory = base.layout.state / "pins"
    memory.chmod(0o666)
    assert base.at(NOW, ask=False) is None
    memory.write_bytes(b"imagetiers pins 1\n[]")
    memory.chmod(0o600)
    assert base.at(NOW, ask=False) is None
