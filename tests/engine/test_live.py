"""The display of a build in a real terminal (tmux): it fits, stays one when the window changes, and leaves a sane shell."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.engine.conftest import REPO, Checkout, use_ccache
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")

WORDS = 400  # more than are done before it is interrupted
LINE = re.compile(rf"^compile:pytorch-clean  +\d+/{WORDS}", re.MULTILINE)


class Terminal:
    """A shell in a terminal of that size."""

    def __init__(self, checkout: Checkout, columns: int) -> None:
        self._server = f"test-{secrets.token_hex(4)}"
        env = {**os.environ, "PYTHONPATH": str(REPO), "LC_ALL": "C.UTF-8"}
        for name in ("NO_COLOR", "GITHUB_ACTIONS", "COLUMNS", "LINES"):  # pytest-xdist says how wide its own is
            env.pop(name, None)
        size = ("-x", str(columns), "-y", "24")
        argv = [
            "tmux",
            "-L",
            self._server,
            "-f",
            "/dev/null",
            "-u",
            "new-session",
            "-d",
            *size,
            "PS1='ready> ' sh",
        ]
        subprocess.run(argv, check=True, cwd=checkout.root, env=env)
        self.wait(lambda screen: "ready>" in screen)

    def tmux(self, *words: str) -> str:
        argv = ["tmux", "-L", self._server, *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def resize(self, columns: int) -> None:
        self.tmux("resize-window", "-x", str(columns), "-y", "24")

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def wait(self, done: Callable[[str], object]) -> str:
        def look() -> str:
            screen = self.screen
            return screen if done(screen) else ""

        return wait_until(look, lambda: self.screen)

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._server, "kill-server"], check=False)


@pytest.fixture
def terminal(checkout: Checkout) -> Iterator[Terminal]:
    made = Terminal(checkout, 80)
    yield made
    made.close()


def write_words(checkout: Checkout, count: int) -> None:
    words = " ".join(f"word{number}" for number in range(count))
    (checkout.root / "images" / "pytorch-clean" / "source.txt").write_text(words + "\n")


def test_it_fits_follows_the_window_and_leaves_a_sane_shell(checkout: Checkout, terminal: Terminal) -> None:
    use_ccache(checkout)
    counting = f'n=$((${{n:-0}} + 1)); echo "[$n/{WORDS}] $word.c"'
    checkout.edit("images/pytorch-clean/make-wheel", 'echo "[$word] done"', counting)
    write_words(checkout, WORDS)
    terminal.type("stty -a >before", "Enter", f"{sys.executable} -m doit compile", "Enter")

    narrow = terminal.wait(lambda screen: LINE.search(screen) and "% hits" in screen)
    assert "│ [" in narrow, "the end of the log"
    assert re.search(r"^1 running, \d+ s$", narrow, re.MULTILINE)
    terminal.resize(200)
    wide = terminal.wait(lambda screen: "━" in screen)
    assert len(LINE.findall(wide)) == 1
    assert re.search(r"  0 % hits  \d.*/\d.* GB  ", wide)
    terminal.resize(60)
    terminal.wait(lambda screen: "━" not in screen)
    time.sleep(1.2)  # drawn twice more
    assert len(LINE.findall(terminal.screen)) == 1

    terminal.type("C-c")
    terminal.wait(lambda screen: screen.rstrip().endswith("ready>"))
    terminal.type('echo "code $?"; stty -a >after; echo "sa""ne"', "Enter")
    screen = terminal.wait(lambda screen: "\nsane\n" in screen)
    assert "code 130" in screen
    assert LINE.search(screen) is None, "nothing of the display stays"
    before, after = ((checkout.root / name).read_text().split("\n", 1)[1] for name in ("before", "after"))
    assert before == after
    assert checkout.containers() == []


def test_what_has_failed_stays_to_be_read(checkout: Checkout, terminal: Terminal) -> None:
    (checkout.root / "images" / "pytorch-clean" / "source.txt").write_text("one two broken\n")
    terminal.type(f"{sys.executable} -m doit compile", "Enter")

    screen = terminal.wait(lambda screen: screen.rstrip().endswith("ready>"))

    assert "source.txt:1:1: error: this word does not compile" in screen
    assert "hint: the full log is " in screen
