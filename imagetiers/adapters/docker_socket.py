"""One question to a Docker daemon at a Unix socket of this machine, without the SDK.

A doit that has nothing to do asks for the list of images and nothing else; importing the SDK with `requests` for that takes
longer than everything else in such a run. What is answered here is what the daemon says; whatever is out of the ordinary
(another transport, no socket, a refusal, a broken answer) is None, and the SDK is asked, which has words for it.
"""

from __future__ import annotations

import os
import socket

__all__ = ["DEFAULT_SOCKET", "ask", "unix_socket"]

DEFAULT_SOCKET = "/var/run/docker.sock"
_SCHEME = "unix://"
_CHUNK = 1 << 18
_PROTOCOL = b"HTTP/1."


def unix_socket(host: str | None) -> str | None:
    """Return the path of a daemon's socket; `host` is what DOCKER_HOST or a context says, None for the default."""
    if host is None:
        return DEFAULT_SOCKET
    return os.path.normpath(host.removeprefix(_SCHEME)) if host.startswith(f"{_SCHEME}/") else None


def ask(path: str, target: str, seconds: float) -> bytearray | None:
    """GET `target` of the daemon at the socket `path`; return the body of a 200, None for everything else.

    Raises TimeoutError when it takes the connection and says nothing for so many seconds.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(path)
            # HTTP/1.0, so that the answer comes in one piece and ends with the connection.
            connection.sendall(f"GET {target} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            return _body(connection)
    except TimeoutError:
        raise
    except OSError:
        return None


def _body(connection: socket.socket) -> bytearray | None:
    received = bytearray()
    head, length = b"", None
    while length is None or len(received) < length:
        part = connection.recv(_CHUNK)
        received += part
        if not head and not received.startswith(_PROTOCOL[: len(received)]):
            return None  # something else is there, which may wait for more
        end = received.find(b"\r\n\r\n") if not head else -1
        if end >= 0:
            head, length = bytes(received[:end]), _length(received[:end])
            del received[: end + 4]
        if not part:
            break
    status = head.split(None, 2)[1:2]
    complete = length is None or len(received) == length
    return received if status == [b"200"] and complete and b"transfer-encoding:" not in head.lower() else None


def _length(head: bytearray) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None
