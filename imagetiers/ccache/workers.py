"""Processes that check and write entries for a pull, and read them for a push.

Python runs one thread at a time, and of what a pack's entries cost most is Python's. The processes share memory with this
one, which has rooms for a pack each: a pack is received into a room, or sent from it, and no other copy of it is made. They
get orders (values that can be pickled) through pipes, and answer them one after the other. What a process did not answer
because it was killed is done here, and so is all of it where none can be started.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import BufferedRWPair
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self, TypeVar, cast

from imagetiers.ccache import worker
from imagetiers.ccache.format.pack import PACK_MAX

__all__ = ["PackOrder", "Room", "Workers"]

_Answer = TypeVar("_Answer")
_Answer_co = TypeVar("_Answer_co", covariant=True)

WORTH = 1000
"""Entries from which on processes are started: that takes 60 ms of a processor to begin with, as much as 400 entries do."""

_THREADS = 2  # at work in this process, where there are no others: more would wait for each other
_MOST = 6
_ENDS_SECONDS = 2.0


class PackOrder(Protocol[_Answer_co]):
    """Something to be done with the bytes of a pack."""

    def do(self, memory: memoryview) -> _Answer_co:
        """Do it, with `memory` of PACK_MAX bytes."""
        ...


class Room(NamedTuple):
    """The memory, PACK_MAX bytes, in which an order finds what it needs, or leaves what it makes; and which one that is."""

    number: int
    memory: memoryview


class _Worker:
    """A process, or none. For one thread at a time."""

    def __init__(self, stream: BufferedRWPair | None = None) -> None:
        self._stream = stream

    def do(self, order: PackOrder[_Answer], room: Room) -> _Answer:
        if self._stream is not None:
            try:
                answer = _ask(self._stream, (room.number, order))
            except (OSError, EOFError, pickle.UnpicklingError):
                self.end()  # somebody has killed it; what was to be done is still in the memory
            else:
                if isinstance(answer, Exception):
                    raise answer
                return cast("_Answer", answer)
        return order.do(room.memory)

    def end(self) -> None:
        """Let it end, after what it is at."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


class Workers:
    """As many workers as are worth it for so many entries, and room for so many packs. Ends them when it is left."""

    def __init__(self, entries: int, rooms: int) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._all: list[_Worker] = []
        memory: mmap.mmap | None = None
        if entries >= WORTH and hasattr(os, "memfd_create"):
            with contextlib.suppress(OSError):
                memory = self._start(min(len(os.sched_getaffinity(0)) + 1, _MOST), rooms * PACK_MAX)
        if memory is None:
            memory = mmap.mmap(-1, rooms * PACK_MAX)  # of which only what is used takes memory
            self._all = [_Worker() for _ in range(_THREADS)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for each in self._all:
            self._idle.put(each)
        self._empty: queue.LifoQueue[Room] = queue.LifoQueue()  # the memory used last is nearest
        for number in reversed(range(rooms)):
            self._empty.put(Room(number, memoryview(memory)[number * PACK_MAX : (number + 1) * PACK_MAX]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for one in self._all:
            one.end()
        if self._process is not None:
            try:
                self._process.wait(_ENDS_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    @contextlib.contextmanager
    def room(self) -> Iterator[Room]:
        """Wait for a room that nobody uses, and have it until this is left."""
        found = self._empty.get()
        try:
            yield found
        finally:
            self._empty.put(found)

    def do(self, order: PackOrder[_Answer], room: Room) -> _Answer:
        """Wait for a worker that has nothing to do, and have it do this. Raises what the order raises."""
        found = self._idle.get()
        try:
            return found.do(order, room)
        finally:
            self._idle.put(found)

    def _start(self, count: int, size: int) -> mmap.mmap:
        """Start processes; return the memory that they share with this one. Raises OSError."""
        made = []
        with contextlib.ExitStack() as theirs:
            fd = os.memfd_create("imagetiers-packs")
            theirs.callback(os.close, fd)
            os.ftruncate(fd, size)
            memory = mmap.mmap(fd, size)
            sockets = []
            for _ in range(count):
                own, other = socket.socketpair()
                sockets.append(theirs.enter_context(other).fileno())
                with own:
                    stream = own.makefile("rwb")
                made.append(_Worker(stream))
            path = [each or str(Path.cwd()) for each in sys.path]  # the same modules, found in the same order
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", worker.__name__, *map(str, (fd, *sockets))],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(fd, *sockets),
                start_new_session=True,  # Ctrl-C is for us; by the end of its socket each sees that we have ended
            )
        self._all = made
        return memory


def _ask(stream: BufferedRWPair, order: object) -> object:
    pickle.dump(order, stream)
    stream.flush()
    return pickle.load(stream)  # noqa: S301  of a program that this one has started
