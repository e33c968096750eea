"""Whatever the package waits for, it ends when it is asked to stop: each way of waiting has been looked at."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import imagetiers
from tests.ccache.synthetic import make_directory
from tests.waiting import PATIENCE

PACKAGE = Path(imagetiers.__file__).parent

# module, call: how it ends. A new one is looked at first: does SIGTERM end it within 2 s, also in another thread?
WAITS = {
    ("adapters/console.py", "get"): "what rich has drawn, which nobody waits for",
    ("adapters/display.py", "wait"): "in a thread that ends with the process, for half a second",
    ("adapters/docker.py", "wait"): "behind a container's end, which the handler of signals brings about",
    ("adapters/docker_socket.py", "recv"): "15 seconds for the first answer and 60 for the second, as the SDK waits",
    ("adapters/locks.py", "flock"): "never waits: LOCK_NB",
    ("adapters/locks.py", "sleep"): "a fifth of a second, then it looks whether it shall stop",
    ("adapters/process.py", "join"): "ten seconds at most, for a program's stdin",
    ("adapters/process.py", "wait"): "the handler ends the program, and kills it after ten seconds",
    ("adapters/signals.py", "wait_for"): "at the end, for the containers of other threads, at most 30 s",
    ("build_folder/install.py", "wait"): "for copies of headers, in a compile's container",
    ("build_folder/parts.py", "pool"): "unpacking, in a compile's container",
    ("build_folder/toolchain.py", "pool"): "hashing, in a compile's container",
    ("building/compile_watch.py", "join"): "two seconds at most, for a look at the container",
    ("building/compile_watch.py", "wait"): "in a thread that ends with the process, for two seconds",
    ("building/deadline.py", "join"): "for a container that is being stopped",
    ("building/limited_engine.py", "wait"): "five seconds at most, for a container that is being started",
    ("ccache/apart.py", "join"): "a second, then it is killed",
    ("ccache/apart.py", "poll"): "in the main thread, where the signal raises",
    ("ccache/checkpoint.py", "join"): "for a push, whose store hurries",
    ("ccache/checkpoint.py", "wait"): "in a thread that ends with the process; `close` wakes it",
    ("ccache/local.py", "sleep"): "a fiftieth of a second, at most for the lock's seconds",
    ("ccache/namespace.py", "pool"): "a read of a store that hurries",
    ("ccache/pull.py", "pool"): "reads of a store that hurries",
    ("ccache/pull.py", "wait_for"): "for bytes that the other threads of the pull give back",
    ("ccache/push.py", "pool"): "reads of a store that hurries",
    ("ccache/upload.py", "pool"): "writes to a store that hurries",
    ("ccache/workers.py", "get"): "for a pack's work, a second at most",
    ("ccache/workers.py", "join"): "no thread: it puts paths together",
    ("ccache/workers.py", "wait"): "for a process at the pack that it has, two seconds, then it is killed",
    ("operations/gc_ccache.py", "pool"): "deletions in a store that hurries",
    ("retry.py", "sleep"): "in slices, and a tenth of a second for the last tries",
    ("retry.py", "wait"): "for being asked to stop itself",
    ("signing/memory.py", "flock"): "never waits: LOCK_NB",
    ("parallel.py", "pool"): "reads of a store that hurries: state/ and cache:gc",
    ("state/compile_folder.py", "pool"): "transfers of a store that hurries, and compression",
    ("stores/directory.py", "flock"): "never waits: LOCK_NB",
    ("stores/directory.py", "sleep"): "hundredths of a second, at most for a second when it shall stop",
    ("stores/gcs_transport.py", "wait"): "in a thread that ends with the process",
    ("stores/gcs_transport.py", "wait_for"): "in a thread that ends with the process",
    ("patience.py", "get"): "in the main thread, where the signal raises, or one that ends with the process",
    ("tui/app.py", "wait"): "for a doit that the keys have started, in a thread that ends with the process",
    (
        "tasks/watch.py",
        "wait",
    ): "in the main thread, where the signal raises; then for a doit that was interrupted, too",
    ("tasks/invocation.py", "get"): "a context variable, which nobody waits for",
}


def waits(path: Path) -> set[str]:
    """Return the ways in which a module waits: by the names of what it calls."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ThreadPoolExecutor":
            found.add("pool")
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, words = node.func.attr, {word.arg for word in node.keywords}
        bare = (not node.args or "timeout" in words) and not words - {"timeout"}
        number = bool(node.args) and isinstance(node.args[0], ast.IfExp | ast.Constant | ast.Name)
        if (
            name in {"sleep", "wait", "wait_for", "flock", "acquire"}
            or (name == "get" and bare)  # of a queue: a dict is asked for a key
            or (name == "join" and (bare or number) and _is_of_a_thread(node.func.value))
            or (name in {"poll", "recv"} and node.args)
        ):
            found.add(name)
    return found


def _is_of_a_thread(value: ast.expr) -> bool:
    """Say whether a `join` may be a thread's: those of texts and paths have a literal, a constant or `path` before them."""
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    return not isinstance(value, ast.Constant | ast.JoinedStr) and not name.isupper() and name not in {"path", "shlex"}


def test_each_way_of_waiting_is_known() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), name) for path in sorted(PACKAGE.rglob("*.py")) for name in waits(path)
    }
    assert found - WAITS.keys() == set(), "look at how it ends"
    assert WAITS.keys() - found == set(), "gone"


LOSING = """
import sys
from functools import partial
from pathlib import Path
from imagetiers.adapters.signals import SignalCancellation
from imagetiers.ccache import namespace
from imagetiers.ccache.checkpoint import Checkpointer
from imagetiers.ccache.push import push
from imagetiers.errors import PreconditionError
from imagetiers.stores.directory import DirectoryStore

namespace._FIRST_PAUSE = namespace._LONGEST_PAUSE = 600  # as after many lost races, and longer

class Losing(DirectoryStore):
    def write(self, name, data, *, if_generation=None):
        if name.endswith("/head"):
            print("losing", flush=True)
            raise PreconditionError.of(name, "somebody else was first")
        return super().write(name, data, if_generation=if_generation)

SignalCancellation().install()
store = Losing(Path(sys.argv[1]) / "store")
keeper = Checkpointer(
    partial(push, store, "main", Path(sys.argv[1]) / "a"), interval=0.01, report=lambda line: print(line, flush=True)
)
with keeper:
    import threading
    threading.Event().wait(600)
"""

LOCKED = """
import fcntl, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from imagetiers.adapters.signals import SignalCancellation
from imagetiers.stores.directory import DirectoryStore

SignalCancellation().install()
root = Path(sys.argv[1]) / "store"
store = DirectoryStore(root)
store.write("x", b"1")
(lock,) = (root / "lock").iterdir()
held = lock.open()
fcntl.flock(held, fcntl.LOCK_EX)
print("losing", flush=True)
with ThreadPoolExecutor(2) as pool:
    list(pool.map(lambda n: store.write("x", b"2"), range(2)))
"""


@pytest.mark.parametrize("script", [LOSING, LOCKED], ids=["a lost race", "a lock of the store"])
def test_sigterm_ends_it_within_two_seconds(script: str, tmp_path: Path) -> None:
    """One of three times: a machine that has other work to do is no failure, and what waits would wait each time."""
    assert any(ended(script, tmp_path / f"{number}") < 2.0 for number in range(3))


def ended(script: str, folder: Path) -> float:
    """Start the script, tell it to stop once it waits, and return how many seconds it took."""
    make_directory(folder / "a", 5)
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "losing\n"
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        said, errors = child.communicate(timeout=PATIENCE)
        seconds = time.monotonic() - began
    assert child.returncode != 0
    assert "asked to stop" in said or "locked by another process" in errors or not said
    return seconds
