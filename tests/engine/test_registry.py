"""The registry, on the real engine and a real one: what is built where, what is published, and what went wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, forget_images, make_checkout, remove_all, use_registry
from tests.registry_server import RegistryServer

TIERS = ["pytorch-clean", "arr-base", "arr-training"]
FIRST = ["compile:pytorch-clean"] + [f"{verb}:{tier}" for tier in TIERS for verb in ("image", "verify", "push")]

Worker = Callable[[], Checkout]


@pytest.fixture
def worker(tmp_path: Path, registry_server: RegistryServer) -> Iterator[Worker]:
    """Make checkouts of one pipeline, each as on a machine of its own, with one registry and one cache."""
    made: list[Checkout] = []

    def make() -> Checkout:
        name = made[0].name if made else ""
        checkout = make_checkout(HERE / "repos" / "tiny", tmp_path / f"worker-{len(made)}", name)
        use_registry(checkout, registry_server, tmp_path / "cache")
        made.append(checkout)
        return checkout

    yield make
    for checkout in made[:1]:
        remove_all(checkout)


def test_cold_then_fresh_then_changed(worker: Worker, registry_server: RegistryServer) -> None:
    cold = worker()
    first = cold.doit()
    assert first.code == 0, first.text
    assert first.executed == FIRST
    plan = cold.plan()
    for tier in TIERS:
        tags = registry_server.tags(f"{cold.name}/{tier}")
        assert list(tags) == sorted([str(plan[tier]["key"])[:12], "latest"])
        assert len(set(tags.values())) == 1, "the friendly tag points to the same image"
    child = json.loads(docker("image", "inspect", f"{registry_server.host}/{cold.name}/arr-training:latest"))[0]
    assert child["RepoDigests"]
    log = (cold.root / ".imagetiers" / "logs" / "arr-base").glob("image-*.log")
    parent = registry_server.digest(f"{cold.name}/pytorch-clean", "latest")
    assert f"pytorch-clean@{parent}" in next(log).read_text(), "a child is built FROM its parent's digest"
    second = cold.doit()
    assert (second.code, second.executed) == (0, [])

    forget_images(cold)
    before = registry_server.listing()
    fresh = worker()
    run = fresh.doit()
    assert (run.code, run.executed) == (0, []), run.text
    assert {tier["state"] for tier in fresh.plan().values()} == {"found in registry"}
    assert fresh.refs() == set(), "nothing was pulled that nobody needs"
    assert registry_server.listing() == before

    (fresh.root / "images/arr-base/config/arr-base.txt").write_text("edited\n")
    changed = fresh.doit()
    assert changed.code == 0, changed.text
    assert changed.executed == [t for t in FIRST if not t.endswith(":pytorch-clean")]
    assert fresh.doit().executed == []

    pulled = fresh.doit("pull:pytorch-clean")
    assert pulled.code == 0, pulled.text
    assert any(ref.endswith("/pytorch-clean:latest") for ref in fresh.refs())
