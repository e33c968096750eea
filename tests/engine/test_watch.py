"""doit watch with the real engine and the kernel's own news: edit, build, run, Ctrl-C."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all
from tests.waiting import PATIENCE, wait_until

PIPELINE = """\
version: 1
name: %s
tiers:
  app: {bases: {BASE: "debian:trixie-slim"}}
"""
DOCKERFILE = "ARG BASE\nFROM ${BASE}\nCOPY hello /hello\nRUN test ! -e /hello || ! grep -q wrong /hello\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    shutil.rmtree(made.root / "images")
    (made.root / "pipeline.lock.yaml").unlink(missing_ok=True)
    (made.root / "pipeline.yaml").write_text(PIPELINE % made.name)
    app = made.root / "images/app"
    app.mkdir(parents=True)
    (app / ".image-manifest").write_text("hello\n")
    (app / "hello").write_text("hello one\n")
    (app / "Dockerfile").write_text(DOCKERFILE)
    yield made
    remove_all(made)


class Output:
    """What a process prints, as it does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line.rstrip() for line in self._process.stdout)

    def wait_for(self, text: str) -> str:
        def look() -> str:
            return next((line for line in list(self.lines) if text in line), "")

        return wait_until(look, lambda: f"{text!r} is not in {self.lines}")


@contextlib.contextmanager
def ended(process: subprocess.Popen[str], by: signal.Signals) -> Iterator[subprocess.Popen[str]]:
    """Send a process that signal after the block, and wait for its end."""
    with process:
        try:
            yield process
        finally:
            process.send_signal(by)
            process.wait(PATIENCE)


def running(checkout: Checkout) -> list[str]:
    return [name for name in checkout.containers() if name.startswith("imagetiers-watch-app-")]


def test_an_engineers_loop(checkout: Checkout) -> None:
    hello = checkout.root / "images/app/hello"
    command = "sh -c 'cat /hello; exec sleep 600'"
    with ended(checkout.start("watch", "--run", command, "app"), signal.SIGINT) as process:
        output = Output(process)
        output.wait_for("image:app in")
        output.wait_for("  hello one")
        (first,) = running(checkout)

        hello.write_text("hello two\n")
        output.wait_for("app: images/app/hello changed: image:app in")
        output.wait_for("  hello two")
        (second,) = running(checkout)
        assert second != first

        hello.write_text("wrong\n")
        output.wait_for("app: images/app/hello changed: image:app failed after")
        assert running(checkout) == [second]  # the last good image goes on

        (checkout.root / "notes").write_text("no input\n")
        hello.write_text("hello three\n")
        output.wait_for("  hello three")
        assert sum("changed:" in line for line in output.lines) == 3
    assert process.returncode == 0, output.lines
    assert output.wait_for("app: no longer watched")
    assert running(checkout) == []


def test_what_a_killed_watch_has_left_is_removed_by_the_next(checkout: Checkout) -> None:
    with ended(checkout.start("watch", "--run", "sleep 600", "app"), signal.SIGKILL) as process:
        Output(process).wait_for("runs sleep 600")
        (left,) = running(checkout)
    assert running(checkout) == [left]
    old = docker("inspect", "-f", "{{.Id}}", left)

    with ended(checkout.start("watch", "--run", "sleep 600", "app"), signal.SIGTERM) as process:
        Output(process).wait_for("runs sleep 600")
        assert docker("inspect", "-f", "{{.Id}}", *running(checkout)) != old
    assert running(checkout) == []
