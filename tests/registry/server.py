"""Debian's docker-registry as a process of its own, on a free port of this machine."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE, wait_until

BINARY = shutil.which("docker-registry")
SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"
MANIFESTS = (
    SCHEMA2,  # what engines with a graph driver push, and the others with containerd's image store
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


def request(
    host: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Send a request; return status, headers (names in lower case) and body."""
    connection = http.client.HTTPConnection(host, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {"Accept": ", ".join(MANIFESTS), **(headers or {})})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


class RegistryServer:
    """A running registry; its images lie below `folder`."""

    def __init__(self, folder: Path) -> None:
        assert BINARY is not None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.host = f"127.0.0.1:{port}"
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "config.yml"
        self._config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: {self.host}}}\n"
            f"storage:\n  filesystem: {{rootdirectory: {folder}/data}}\n  delete: {{enabled: true}}\n"
        )
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([str(BINARY), "serve", str(self._config)], stdout=log, stderr=log)
        wait_until(self._answers, (self.folder / "log").read_text)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.request("GET", "/v2/")[0] == 200
        return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        return request(self.host, method, path, body, headers)

    def digest(self, repository: str, tag: str) -> str | None:
        status, headers, _ = self.request("HEAD", f"/v2/{repository}/manifests/{tag}")
        return headers["docker-content-digest"] if status == 200 else None

    def tags(self, repository: str) -> dict[str, str]:
        status, _, body = self.request("GET", f"/v2/{repository}/tags/list")
        names: list[str] = (json.loads(body).get("tags") or []) if status == 200 else []
        return {name: self.digest(repository, name) or "" for name in sorted(names)}

    def listing(self) -> dict[str, dict[str, str]]:
        """Return every tag of every repository with its digest."""
        names: list[Any] = json.loads(self.request("GET", "/v2/_catalog?n=1000")[2])["repositories"]
        return {str(name): self.tags(str(name)) for name in sorted(names)}

    def overwrite(self, repository: str, tag: str, other: str) -> None:
        """Do what a hand would do: let `tag` point to what `other` (a tag or digest) is."""
        status, headers, body = self.request("GET", f"/v2/{repository}/manifests/{other}")
        assert status == 200
        kind = {"Content-Type": headers["content-type"]}
        status, _, text = self.request("PUT", f"/v2/{repository}/manifests/{tag}", body, kind)
        assert status == 201, text

    def remove_tag(self, repository: str, tag: str) -> None:
        """Remove a tag and nothing else, as a cleanup policy does (2.8 cannot by its API)."""
        shutil.rmtree(self.folder / "data/docker/registry/v2/repositories" / repository / "_manifests/tags" / tag)

    def collect(self, repository: str, digest: str) -> None:
        """Remove an image and all its tags, as a garbage collection does."""
        status, _, text = self.request("DELETE", f"/v2/{repository}/manifests/{digest}")
        assert status == 202, text
