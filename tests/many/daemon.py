"""A daemon at a Unix socket that knows a list of images, and nothing else."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import MappingProxyType

_NONE: Mapping[str, bytes] = MappingProxyType({})


@contextmanager
def daemon(path: Path, images: bytes, others: Mapping[str, bytes] = _NONE) -> Iterator[list[str]]:
    """Answer at the socket `path` while the block runs, `others` to their paths; the list is of what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = images if self.path.startswith("/images/json") else others.get(self.path, b"OK")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

        def address_string(self) -> str:
            return "unix"

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()
