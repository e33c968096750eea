"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gcs.harness import GcsServer


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
