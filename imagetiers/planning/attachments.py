"""What is published beside an image, and how registries and cosign call it. Pure.

A document is attached as a manifest of its own whose `subject` is the image (a referrer, OCI 1.1), and attested by cosign as
the predicate of an in-toto statement. Both hold the same: `predicate_of` says what to compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagetiers.documents import parse_object

__all__ = ["KINDS", "STATEMENT", "AttachmentKind", "canonical", "predicate_of", "statement"]

STATEMENT = "https://in-toto.io/Statement/v1"
_IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class AttachmentKind:
    """A kind of document: pipeline.yaml's name of it, its media type, and the type that an attestation of it has."""

    name: str
    media_type: str
    predicate_type: str

    @property
    def is_statement(self) -> bool:
        """Whether the document is an in-toto statement itself, and not only the predicate of one."""
        return self.media_type == _IN_TOTO


KINDS: Mapping[str, AttachmentKind] = {
    kind.name: kind
    for kind in (
        AttachmentKind("provenance", _IN_TOTO, "https://slsa.dev/provenance/v1"),
        AttachmentKind("cyclonedx", "application/vnd.cyclonedx+json", "https://cyclonedx.org/bom"),
        AttachmentKind("spdx", "application/spdx+json", "https://spdx.dev/Document"),
    )
}
"""By pipeline.yaml's names."""


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return a document as bytes that are the same for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def statement(kind: AttachmentKind, repository: str, digest: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the in-toto statement that says a predicate of an image."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": repository, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": kind.predicate_type,
        "predicate": predicate,
    }


def predicate_of(kind: AttachmentKind, content: bytes) -> dict[str, Any] | None:
    """Return what an attestation of an attached document says of the image; None for what is no such document."""
    document = parse_object(content)
    if document is None or not kind.is_statement:
        return document
    predicate = document.get("predicate")
    return predicate if document.get("predicateType") == kind.predicate_type and isinstance(predicate, dict) else None
