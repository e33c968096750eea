"""The archive of an image of Debian, as `docker save` writes it: a distribution, and what dpkg says is installed."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tests.registry.server import SCHEMA2

RELEASE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\n'


def tar(files: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for path, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            info = tarfile.TarInfo(path)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


def saved_by_containerd(config: dict[str, Any], layers: Sequence[bytes]) -> bytes:
    """Return an image's archive as containerd's image store saves it: each layer as it was pulled, loaded or built."""
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def put(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    of_layer = "application/vnd.docker.image.rootfs.diff.tar"
    blobs = [put(layer, f"{of_layer}.gzip" if layer.startswith(b"\x1f\x8b") else of_layer) for layer in layers]
    given = put(json.dumps(config).encode(), "application/vnd.docker.container.image.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": SCHEMA2, "config": given, "layers": blobs}
    listed = put(json.dumps(manifest).encode(), SCHEMA2)
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [listed]}).encode()
    names = [f"blobs/sha256/{blob['digest'].removeprefix('sha256:')}" for blob in (given, *blobs)]
    files["manifest.json"] = json.dumps([{"Config": names[0], "RepoTags": None, "Layers": names[1:]}]).encode()
    return tar(dict(sorted(files.items())))


def debian(
    packages: Mapping[str, str], *, release: str = RELEASE, python: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    status = "".join(
        f"Package: {name}\nStatus: install ok installed\nMaintainer: x <x@x>\nArchitecture: amd64\n"
        f"Version: {version}\nDescription: x\n\n"
        for name, version in packages.items()
    )
    files = {"etc/debian_version": "13.1\n", "var/lib/dpkg/status": status}
    for name, version in python.items():
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        files[f"opt/venv/lib/python3.13/site-packages/{name}-{version}.dist-info/METADATA"] = metadata
    layer = tar({**files, **({"etc/os-release": release, "usr/lib/os-release": release} if release else {})})
    config = {
        "architecture": "amd64", "os": "linux", "config": {}, "history": [{"created_by": "tests"}],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": ["debian:test"], "Layers": ["layer.tar"]}]
    return tar({"config.json": json.dumps(config), "layer.tar": layer, "manifest.json": json.dumps(manifest)})
