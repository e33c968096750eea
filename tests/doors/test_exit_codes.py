"""The exit codes that the README lists are those that doit ends with."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

from tests.engine.conftest import REPO, Checkout, send

ROWS = re.findall(r"^\| (\d+) \| [^|]+ \|([^|]*)\|$", (REPO / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
EXAMPLES = [(int(code), example) for code, cell in ROWS for example in re.findall(r"`doit ([^`]+)`", cell)]


def test_the_table_is_there() -> None:
    assert [int(code) for code, _ in ROWS] == [0, 1, 2, 3, 130]
    assert len(EXAMPLES) > 15


@pytest.mark.parametrize(("code", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_exit_code(code: int, example: str, offline: Checkout) -> None:
    run = offline.doit(*example.split())

    assert run.code == code, run.text
    assert "Traceback" not in run.text
    if code == 3:
        assert run.out == "", "nothing ran"


def test_a_wrong_pipeline_and_a_missing_secret(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "arr-base: {parent", "arr-base: {secrets: {token: {env: NO_SUCH_TOKEN}}, parent")
    missing = offline.doit("image:arr-base")
    offline.edit("pipeline.yaml", "parent: pytorch-clean", "parent: pytorch-clena")
    wrong = offline.doit("list")

    assert (missing.code, missing.out) == (3, "")
    assert (wrong.code, wrong.out) == (3, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_a_daemon_hangs(number: signal.Signals, offline: Checkout, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "hung.sock"))
        daemon.listen()
        process = offline.start("image", DOCKER_HOST=f"unix://{tmp_path}/hung.sock")
        connection, _ = daemon.accept()
        with connection:
            run = send(process, number)

    assert run.code == -signal.SIGINT, "of which a shell makes 130"
    assert run.err.strip() == "interrupted: what was compiled is kept; run doit again to go on"
