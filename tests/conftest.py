"""Fixtures that every kind of test uses: a small repository to edit, golden texts, a bucket."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from imagetiers.config.layout import Layout
from imagetiers.planning.decide import TierDecision, decide, tier_decisions
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import Plan
from imagetiers.planning.status import TierStatus, tier_statuses
from tests.gcs.harness import GcsServer
from tests.registry.server import BINARY, RegistryServer

HERE = Path(__file__).parent

# A busy machine is no failure.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

Golden = Callable[[str, Path], None]


TOGETHER = {
    "tests/engine/test_quickstart.py": "c10",
    "tests/engine/test_build_folder.py": "c10",
    "tests/engine/test_production.py": "production",
    "tests/engine/test_cloudbuild": "builder",
    "tests/engine/test_forecast.py": "compilers",
    "tests/engine/test_memory.py": "compilers",
    "tests/engine/test_outputs.py": "compilers",
    "tests/engine/test_warm.py": "compilers",
    "tests/oracle/": "oracle",
}
"""Which tests of the real engine one process runs, the longest first: an engine that removes an image while another build makes
the very same one fails that build. What a file builds that is not here is in no other file's images, but for the tiny
pipeline's, of which each process has its own (`tests/engine/conftest.py`)."""

NEXT = ("tests/engine/", "tests/bake/", "tests/unit/build_folder/", "tests/lint/", "tests/planning/", "tests/tasks/")
"""What follows them: the engine's other tests, which wait more than they compute, then what takes half a minute a file."""


def together(nodeid: str) -> str | None:
    """Return whom a test of the engine stays together with; None for the others."""
    return next((group for prefix, group in TOGETHER.items() if nodeid.startswith(prefix)), None)


def turn(nodeid: str) -> int:
    """Return how early a test is begun, of several processes that share them: the longest first, so that none is last alone."""
    prefixes = (*TOGETHER, *NEXT)
    return next((at for at, prefix in enumerate(prefixes) if nodeid.startswith(prefix)), len(prefixes))


class Shares(LoadFileScheduling):
    """How several processes share the tests: a file's stay together, for what they have in common, and some files do."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid) or super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    return Shares(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, begin with those that take longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: turn(item.nodeid))


def edit(path: str, old: str, new: str) -> Callable[[Layout], None]:
    """Return what replaces the first `old`, which must be there, in a file of a repository."""

    def apply(layout: Layout) -> None:
        target = layout.root / path
        text = target.read_text()
        assert old in text
        target.write_text(text.replace(old, new, 1))

    return apply


def tiers_of(plan: Plan, observed: ObservedState) -> tuple[TierDecision, ...]:
    """Decide, and say what that comes to for each tier."""
    return tier_decisions(plan, observed, decide(plan, observed))


def statuses_of(plan: Plan, seen: ObservedState) -> tuple[TierStatus, ...]:
    """Return the status of each tier, of which the cache has said nothing."""
    decisions = decide(plan, seen)
    return tier_statuses(plan, seen, decisions, tier_decisions(plan, seen, decisions), None)


@pytest.fixture
def tiny(tmp_path: Path) -> Layout:
    """A copy of tests/repos/tiny: three tiers that are built from nothing but a shell."""
    root = tmp_path / "tiny"
    shutil.copytree(HERE / "repos" / "tiny", root, ignore=shutil.ignore_patterns(".imagetiers"))
    return Layout(root)


@pytest.fixture
def golden() -> Golden:
    """Compare a text with a file; UPDATE_GOLDEN=1 writes the file instead."""

    def compare(text: str, path: Path) -> None:
        if os.environ.get("UPDATE_GOLDEN"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        expected = path.read_text(encoding="utf-8") if path.exists() else ""

        assert text == expected, f"{path.name} differs; if that is right: UPDATE_GOLDEN=1 pytest, then read the diff"

    return compare


@pytest.fixture(scope="session")
def _gcs_process() -> Iterator[GcsServer]:
    server = GcsServer()
    yield server
    server.close()


@pytest.fixture
def gcs_server(_gcs_process: GcsServer) -> Iterator[GcsServer]:
    """Give the test run's GCS server, without faults and with counters at zero; its objects stay."""
    _gcs_process.config(clear=True)
    yield _gcs_process
    _gcs_process.close_stores()


@pytest.fixture(scope="session")
def registry_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Run one registry for all tests; each pipeline has a name, and so repositories, of its own."""
    if BINARY is None:
        pytest.skip("no docker-registry on the PATH: ci/bootstrap registry installs it")
    server = RegistryServer(tmp_path_factory.mktemp("registry"))
    yield server
    server.stop()
