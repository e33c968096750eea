"""The program of `workers`' processes.

    python -P -m imagetiers.ccache.worker MEMORY SOCKET [SOCKET ...]

All of these are file descriptors. One process forks for each socket once everything is imported, which takes longer than many
an order. Orders come pickled, each with the number of the room in the memory that it is about; the answer goes back, and where
there are no more orders the process ends.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import socket
import sys
from collections.abc import Sequence
from io import BufferedRWPair

from imagetiers.ccache import packing, unpack
from imagetiers.ccache.format.pack import PACK_MAX

__all__ = ["main", "serve"]

_IMPORTED = (packing, unpack)
"""Where the orders are from."""


def serve(stream: BufferedRWPair, memory: memoryview) -> None:
    """Do each order; what it raises is an answer, too."""
    while True:
        try:
            room, order = pickle.load(stream)  # noqa: S301  of the process that started this one
        except EOFError:
            return
        try:
            answer = order.do(memory[room * PACK_MAX : (room + 1) * PACK_MAX])
        except Exception as error:  # noqa: BLE001  raised again by who gave the order
            answer = error
        pickle.dump(answer, stream)
        stream.flush()


def main(arguments: Sequence[str]) -> None:
    """Serve all sockets, each in a process of its own, and wait for these."""
    shared, *sockets = map(int, arguments)
    memory = memoryview(mmap.mmap(shared, 0))  # all of it
    gc.disable()  # an order and its answer hold no cycles, and are many small values
    children = []
    for own in sockets:
        child = os.fork()
        if not child:
            _serve_one(own, set(sockets) - {own}, memory)
        children.append(child)
    for fd in sockets:
        os.close(fd)
    for child in children:
        os.waitpid(child, 0)
    os._exit(0)  # nothing is left to be put in order, and that takes Python a while


def _serve_one(own: int, others: set[int], memory: memoryview) -> None:
    """Serve one socket and end. The others' are closed: by them it is seen when one of the processes has ended."""
    try:
        for fd in others:
            os.close(fd)
        with socket.socket(fileno=own) as connection, connection.makefile("rwb") as stream:
            serve(stream, memory)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
