"""A bad network between a store and its server: a TCP proxy whose first connections misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

Behave = Callable[[socket.socket, socket.socket], None]


class Proxy:
    """Listens for a server at `url`; each connection takes the next of `queue`, and passes all on when there is none left."""

    def __init__(self, url: str) -> None:
        self._to = (urlsplit(url).hostname or "", urlsplit(url).port or 0)
        self.queue: list[Behave] = []
        self.connections = 0
        self.ended = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            behave = self.queue.pop(0) if self.queue else self.passes
            threading.Thread(target=self._connected, args=(client, behave), daemon=True).start()

    def _connected(self, client: socket.socket, behave: Behave) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._to) as server:
            behave(client, server)

    def passes(self, client: socket.socket, server: socket.socket) -> None:
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        _pump(server, client)

    def silent(self, client: socket.socket, _server: socket.socket) -> None:
        """Take the request, answer nothing."""
        threading.Thread(target=_pump, args=(client, None), daemon=True).start()
        self.ended.wait()

    def deaf(self, _client: socket.socket, _server: socket.socket) -> None:
        """Take nothing: a large upload stands still."""
        self.ended.wait()

    def drips(self, client: socket.socket, server: socket.socket, *, after: int = 0) -> None:
        """Answer with `after` bytes at once, then one every tenth of a second."""
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        sent = 0
        while data := server.recv(65536):
            for at in range(len(data)):
                if sent >= after:
                    self.ended.wait(0.1)
                client.sendall(data[at : at + 1])
                sent += 1
                if self.ended.is_set():
                    return

    def drips_content(self, client: socket.socket, server: socket.socket) -> None:
        self.drips(client, server, after=2000)

    def answers(self, text: str) -> Behave:
        """Answer every connection with this, whatever was asked."""

        def behave(client: socket.socket, _server: socket.socket) -> None:
            client.recv(1 << 20)
            client.sendall(text.replace("\n", "\r\n").encode())
            client.shutdown(socket.SHUT_WR)
            _pump(client, None)  # closed with something unread, the connection would be reset before the answer is read

        return behave


def _pump(source: socket.socket, target: socket.socket | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if target is not None:
                target.sendall(data)
    with contextlib.suppress(OSError, AttributeError):
        target.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
