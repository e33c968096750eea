"""A registry that lists what is attached to images (OCI 1.1), in front of one that does not: Debian's is older than that.

As the specification has it: a manifest with a subject is answered with OCI-Subject, and `referrers/DIGEST` is an index, here of
one entry a page.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.registry.server import request

_TAKEN = ("location", "docker-content-digest", "content-type", "range", "docker-upload-uuid")


class SubjectRegistry(ThreadingHTTPServer):
    """Runs until it is stopped; `host` is where, `behind` where the other one is."""

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.host = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # in whose words TLS is refused: containerd takes no others for plain HTTP

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.pass_on
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        pass

    def pass_on(self) -> None:
        server = self.server
        assert isinstance(server, SubjectRegistry)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, digest = urlsplit(self.path).path.partition("/referrers/")
        if digest:
            self._list(server.lists.get(digest, []), f"{path}/referrers/{digest}")
            return
        headers = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
        status, answered, data = request(server.behind, self.command, self.path, body, headers)
        more = {name: value.replace(server.behind, server.host) for name, value in answered.items() if name in _TAKEN}
        manifest = json.loads(body) if self.command == "PUT" and "/manifests/" in self.path else {}
        if status == 201 and "subject" in manifest:
            more["OCI-Subject"] = manifest["subject"]["digest"]
            server.lists.setdefault(more["OCI-Subject"], []).append(
                {"digest": answered["docker-content-digest"], "size": len(body),
                 "mediaType": self.headers["Content-Type"], "artifactType": manifest["artifactType"]}
            )  # fmt: skip
        self._answer(status, more, data)

    def _list(self, entries: list[dict[str, Any]], path: str) -> None:
        page = int(parse_qs(urlsplit(self.path).query).get("page", ["0"])[0])
        index = {"schemaVersion": 2, "manifests": entries[page : page + 1]}
        follows = {"Link": f'<{path}?page={page + 1}>; rel="next"'} if page + 1 < len(entries) else {}
        self._answer(200, follows, json.dumps(index).encode())

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
