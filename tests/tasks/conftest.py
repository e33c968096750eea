"""doit as a new user meets it, where there is no Docker: a small pipeline, and a daemon's address at which nobody is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, make_checkout


@pytest.fixture
def offline(tmp_path: Path) -> Checkout:
    """A checkout of the tiny pipeline that has no engine."""
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout", name="tiny", built=False)
    env = {"DOCKER_HOST": f"unix://{tmp_path}/no-daemon.sock", "NO_COLOR": "", "COLUMNS": "", "TERM": "xterm"}
    return replace(made, env=env)
