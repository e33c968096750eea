"""A cache that does not answer holds up no compile longer than it was given, and a finished one loses nothing by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, make_checkout, remove_all, use_ccache
from tests.gcs.harness import GcsServer

NEVER = 3600


@pytest.fixture
def worker(tmp_path: Path, gcs_server: GcsServer) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "worker", server=gcs_server)
    use_ccache(made)
    yield made
    remove_all(made)


def finished(checkout: Checkout) -> list[Path]:
    return list((checkout.root / ".imagetiers" / "wheels").glob("*/wheels.json"))


def test_a_finished_compile_is_there_although_no_upload_is_answered(worker: Checkout, gcs_server: GcsServer) -> None:
    worker.doit("compile:pytorch-clean", "--timeout", "0s")  # the image of the compile stage
    gcs_server.fault("delay", "insert", seconds=NEVER, times=0)
    run = worker.doit("compile:pytorch-clean", "--timeout", "30s")
    assert run.code == 0, run.text
    assert len(finished(worker)) == 1
    assert "did not answer before the time was over" in run.out
    assert worker.containers() == []


def test_a_cache_that_answers_nothing_is_not_waited_for(worker: Checkout, gcs_server: GcsServer) -> None:
    worker.doit("compile:pytorch-clean", "--timeout", "0s")
    gcs_server.fault("delay", "download", seconds=NEVER, times=0)
    run = worker.doit("compile:pytorch-clean", "--timeout", "6s", timeout=60)
    assert run.code == 1, run.text
    assert "was not done after 6 s and was stopped" in run.err
    assert worker.containers() == []
