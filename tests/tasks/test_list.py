"""Who only asks what there is to do changes nothing: no file is written, no signal taken over, nothing asked of anybody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import REPO, Checkout

# doit in this process, and what it has left of the handlers.
SIGNALS = """
import signal, sys
from doit.doit_cmd import DoitMain
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], sys.excepthook
code = DoitMain().run(sys.argv[1:])
after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], sys.excepthook
print("code", code, "same" if before == after else "taken over")
"""


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return everything below a folder, but Python's own cache: mode, time of the last change, content."""
    found = {}
    for path in sorted(root.rglob("*")):
        if "__pycache__" not in path.parts:
            state = path.lstat()
            found[str(path.relative_to(root))] = (
                state.st_mode,
                state.st_mtime_ns,
                path.read_bytes() if path.is_file() else b"",
            )
    return found


def ask(checkout: Checkout, *args: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(REPO), **checkout.env}
    argv = [sys.executable, "-c", SIGNALS, *args]
    done = subprocess.run(argv, cwd=checkout.root, env=env, capture_output=True, text=True, check=False)
    assert done.stderr == "", done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "args",
    [("list",), ("list", "--all", "--deps"), ("help",), ("help", "image:arr-base"), ("variant=shouting", "list")],
)
def test_writes_nothing_and_takes_nothing_over(args: tuple[str, ...], offline: Checkout) -> None:
    before = tree(offline.root)

    assert ask(offline, *args) == "code 0 same"
    assert tree(offline.root) == before


def test_what_runs_takes_signals_over_and_remembers_what_passed(offline: Checkout) -> None:
    assert ask(offline, "check") == "code 0 taken over"
    assert {path.name for path in (offline.root / ".imagetiers").iterdir()} == {"state", "pipeline.schema.json"}


def test_in_a_folder_that_nobody_may_write(offline: Checkout) -> None:
    """The same where it would fail (for anybody but root, who may do everything)."""
    for folder, _, _ in os.walk(offline.root):
        Path(folder).chmod(0o555)
    try:
        run = offline.doit("list", PYTHONDONTWRITEBYTECODE="1")
    finally:
        for folder, _, _ in os.walk(offline.root):
            Path(folder).chmod(0o755)

    assert (run.code, run.err) == (0, "")


@pytest.mark.parametrize("args", [("help",), ("help", "run"), ("list",), ("info", "image:arr-base")])
def test_a_reader_that_has_gone(args: tuple[str, ...], offline: Checkout) -> None:
    process = offline.start(*args, PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    process.stdout.close()
    with process:
        assert process.stderr is not None
        assert process.stderr.read() == ""
