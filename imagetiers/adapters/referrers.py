"""What is attached to an image (OCI 1.1): manifests whose subject it is.

A registry that knows of subjects lists them. In one that does not, the tag `sha256-HEX` of the image's digest holds the list,
as the specification has it, and clients keep it: it is read, added to and read back, since nobody locks it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from imagetiers.adapters.registry_http import INDEX, DamagedError, HttpError, Manifest, RegistryHttp
from imagetiers.documents import is_digest, parse_object
from imagetiers.services import Referrer

__all__ = ["attach", "document", "listed"]

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_NOTHING = b"{}"
_LARGEST = 64 << 20  # bytes of a document
_ROUNDS = 10


def listed(wire: RegistryHttp, ref: str) -> tuple[Referrer, ...]:
    """Return what is attached to `repository@digest`."""
    return tuple(
        Referrer(str(each["digest"]), str(each.get("artifactType", "")))
        for each in _descriptors(wire, ref)
        if is_digest(each.get("digest"))
    )


def attach(wire: RegistryHttp, ref: str, media_type: str, content: bytes, annotations: Mapping[str, str]) -> str:
    """Attach a document to `repository@digest`; the same document is the same manifest. Return that one's digest."""
    repository = ref.partition("@")[0]
    subject = wire.manifest(ref)
    if subject is None:
        raise HttpError(404, "there is no such image")
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "artifactType": media_type,
        "config": _descriptor(_EMPTY, _NOTHING),
        "layers": [_descriptor(media_type, content)],
        "subject": {"mediaType": subject.kind, "digest": subject.digest, "size": len(subject.body)},
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    body = json.dumps(manifest, sort_keys=True).encode()
    digest = _digest(body)
    for blob in (_NOTHING, content):
        wire.put_blob(repository, blob)
    if not wire.put_manifest(f"{repository}@{digest}", Manifest(digest, _MANIFEST, body)):
        entry = {**_descriptor(_MANIFEST, body), "artifactType": media_type}
        _enter(wire, ref, {**entry, "annotations": dict(annotations)} if annotations else entry)
    return digest


def document(wire: RegistryHttp, ref: str) -> bytes:
    """Return the one blob of the manifest `repository@digest`."""
    manifest = wire.manifest(ref)
    layers = (parse_object(manifest.body) or {}).get("layers") if manifest is not None else None
    layer = layers[0] if isinstance(layers, list) and len(layers) == 1 else None
    size = layer.get("size") if isinstance(layer, dict) else None
    if layer is None or not is_digest(layer.get("digest")) or not isinstance(size, int) or not 0 <= size <= _LARGEST:
        raise DamagedError("it is no document, or larger than one may be")
    return b"".join(wire.stream_blob(ref.partition("@")[0], layer["digest"], size))


def _descriptors(wire: RegistryHttp, ref: str) -> list[dict[str, Any]]:
    """Return the list of what refers to an image: the registry's own, else the one under the tag."""
    pages = wire.referrers(ref)
    if pages is None:
        tagged = wire.manifest(_tag(ref))
        pages = [tagged] if tagged is not None else []
    found = []
    for page in pages:
        entries = (parse_object(page.body) or {}).get("manifests")
        if not isinstance(entries, list):
            raise DamagedError("what came back is no list of what is attached")
        found += [entry for entry in entries if isinstance(entry, dict)]
    return found


def _enter(wire: RegistryHttp, ref: str, entry: Mapping[str, Any]) -> None:
    """Add to the list under the tag, until it is in it."""
    for _ in range(_ROUNDS):
        entries = _descriptors(wire, ref)
        if any(each.get("digest") == entry["digest"] for each in entries):
            return
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, dict(entry)]}
        body = json.dumps(index, sort_keys=True).encode()
        wire.put_manifest(_tag(ref), Manifest(_digest(body), INDEX, body))
    raise DamagedError("the list of what is attached changes all the time")


def _tag(ref: str) -> str:
    repository, _, digest = ref.partition("@")
    return f"{repository}:{digest.replace(':', '-')}"


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
