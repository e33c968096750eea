"""Start a GCS test server as a process of its own, set its faults, read its counters."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imagetiers.retry import RetryPolicy
from imagetiers.stores.gcs import GcsStore
from tests.waiting import PATIENCE

BUCKET = "test-bucket"
# Quick retries: tests inject a known number of faults, so no time is needed for a server to recover.
QUICK = RetryPolicy(first=0.005, most=0.02, total=20.0, throttled=0.01, connect=5.0, answer=10.0)


class GcsServer:
    """A running server; `close` ends it. It also ends when this process does, however that happens."""

    def __init__(self, *arguments: str) -> None:
        script = Path(__file__).with_name("server.py")
        command = [sys.executable, str(script), "--follow", "--bucket", BUCKET, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), "the server did not start"
        self._stores: list[GcsStore] = []

    def close_stores(self) -> None:
        """Close the connections of every store made so far."""
        while self._stores:
            self._stores.pop().close()

    def close(self) -> None:
        self.close_stores()
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()

    def store(
        self, prefix: str = "cache", *, bucket: str = BUCKET, policy: RetryPolicy = QUICK, principal: str = ""
    ) -> GcsStore:
        """Open a store; as `principal` where the server was told of some."""
        endpoint = f"{self.url}/_as/{principal}" if principal else self.url
        store = GcsStore(bucket, prefix, endpoint=endpoint, policy=policy)
        self._stores.append(store)
        return store

    def fault(self, fault: str, op: str = "", **more: Any) -> None:
        """Set one rule, see server.Rule."""
        self.config(rules=[{"fault": fault, "op": op, **more}])

    def config(self, **settings: Any) -> None:
        self.request("POST", "/_test/config", json.dumps(settings).encode())

    def requests(self) -> int:
        return int(json.loads(self.request("GET", "/_test/stats")[2])["requests"])

    def log(self) -> list[dict[str, Any]]:
        return list(json.loads(self.request("GET", "/_test/log")[2])["log"])

    def request(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send a raw request; return status, headers and body."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        try:
            connection.request(method, target, body or None, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.msg, answer.read()
        finally:
            connection.close()
