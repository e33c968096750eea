"""The one place that runs programs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from imagetiers.errors import ImagetiersError
from imagetiers.services import Cancellation, OnLine

__all__ = ["LONGEST_LINE", "Child", "run"]

LONGEST_LINE = 1 << 16  # bytes; a longer one is passed on in pieces

_TERM_SECONDS = 10.0


def run(
    argv: tuple[str, ...],
    *,
    stdin: Iterable[bytes] = (),
    env: Mapping[str, str | None] | None = None,
    on_line: OnLine = lambda _line: None,
    out: BinaryIO | None = None,
    cancel: Cancellation | None = None,
    seconds: float | None = None,
    grace: float = _TERM_SECONDS,
) -> int:
    """Run a program, pass on its lines (stdout and stderr together, no piece longer than `LONGEST_LINE`), return its exit code.

    `env` is laid over our own environment; None takes a variable away.

    With `out`, what it prints goes to that file as it is, and its lines are those of stderr alone.

    What `stdin` raises while it yields ends the program, and is raised.

    It ends with us: on Ctrl-C, SIGTERM (through `cancel`) and on every exception it is terminated, and
    killed when it has not ended after `grace` seconds. Raises
    FileNotFoundError when there is no such program, TimeoutError when it has not ended after so many `seconds`.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if out is None else out,
        stderr=subprocess.STDOUT if out is None else subprocess.PIPE,
        env=None if env is None else {k: v for k, v in {**os.environ, **env}.items() if v is not None},
        start_new_session=True,  # Ctrl-C reaches us first; we end the child in our own order
    )
    watch = cancel.on_request(process.terminate) if cancel is not None else contextlib.nullcontext()
    failed: list[ImagetiersError] = []
    feeder = threading.Thread(target=_feed, args=(process, stdin, failed), daemon=True)
    feeder.start()
    late = threading.Event()
    timer = _timer(seconds, late, process)
    try:
        with watch:
            lines = process.stdout or process.stderr
            assert lines is not None  # noqa: S101  PIPE was asked for
            for raw in iter(partial(lines.readline, LONGEST_LINE), b""):
                on_line(raw.decode(errors="replace").rstrip("\r\n"))
            code = process.wait()
        if failed:
            raise failed[0]
        if late.is_set():
            raise TimeoutError(f"{argv[0]}: has not ended after {seconds} s")
        return code
    finally:
        if timer is not None:
            timer.cancel()
        _end(process, grace)
        feeder.join(_TERM_SECONDS)  # what the program has left behind may hold its stdin


def _timer(seconds: float | None, late: threading.Event, process: subprocess.Popen[bytes]) -> threading.Timer | None:
    if seconds is None:
        return None

    def over() -> None:
        late.set()
        # Its children, too (git's helpers): they hold the other end of our pipe.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, over)
    timer.daemon = True
    timer.start()
    return timer


def _feed(process: subprocess.Popen[bytes], pieces: Iterable[bytes], failed: list[ImagetiersError]) -> None:
    # A program that ends early closes its stdin; its exit code tells the story.
    with contextlib.suppress(BrokenPipeError, OSError):
        assert process.stdin is not None  # noqa: S101  PIPE was asked for
        with process.stdin as pipe:
            try:
                for piece in pieces:
                    pipe.write(piece)
            except ImagetiersError as error:
                failed.append(error)
                # Before its stdin ends, which it, or a child of it, would take for the end of what there is.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    stop: Callable[[], None]
    for stop in (process.terminate, process.kill):
        if process.poll() is not None:
            break
        stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


class Child:
    """A program that runs beside us, in our own process group: what ends the terminal's group ends it, too.

    Its lines (stdout and stderr together) are passed on from another thread. One that is `apart` has a session of its own:
    a Ctrl-C reaches it only by `interrupt`.
    """

    def __init__(self, argv: tuple[str, ...], folder: Path, on_line: OnLine, *, apart: bool = False) -> None:
        self._process = subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=apart,
        )
        self._reader = threading.Thread(target=self._read, args=[on_line], daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Return its exit code, once it has ended and all its lines were passed on."""
        self._reader.join()
        return self._process.wait()

    def _read(self, on_line: OnLine) -> None:
        assert self._process.stdout is not None  # noqa: S101  PIPE was asked for
        with self._process.stdout as lines:
            for raw in iter(partial(lines.readline, LONGEST_LINE), b""):
                on_line(raw.decode(errors="replace").rstrip("\r\n"))
