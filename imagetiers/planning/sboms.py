"""SBOMs as published: of the image's name, and the same bytes each time; trivy's have a time and random names. Pure."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Any

from imagetiers.documents import parse_object
from imagetiers.planning.attachments import canonical

__all__ = ["component_count", "settle_cyclonedx", "settle_spdx"]

_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LOCAL = {"aquasecurity:trivy:RepoTag", "aquasecurity:trivy:RepoDigest", "aquasecurity:trivy:Reference"}


def settle_cyclonedx(data: bytes, repository: str, digest: str, created: int) -> bytes | None:
    """Return a CycloneDX document of the image `repository@digest`, `created` then (Unix seconds); None for what is none.

    What only says how the image is called on this machine is left out.
    """
    document = parse_object(data)
    try:
        if document is None or document["bomFormat"] != "CycloneDX":
            return None
        about = document["metadata"]
        about["timestamp"] = _time(created)
        component = about["component"]
        component |= {"name": repository, "version": digest, "purl": _purl(repository, digest)}
        component["properties"] = [each for each in component.get("properties", []) if each["name"] not in _LOCAL]
        document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}"
        named = _names([component, *document.get("components", [])], digest)
        document = parse_object(_UUID.sub(lambda match: named.get(match[0], match[0]), canonical(document))) or {}
        for listed, name in (("components", "bom-ref"), ("dependencies", "ref")):
            document[listed] = sorted(document.get(listed, []), key=lambda each: str(each[name]))
        for each in document["dependencies"]:
            each["dependsOn"] = sorted(each.get("dependsOn", []))
    except (KeyError, TypeError, AttributeError):
        return None
    return canonical(document)


def _names(components: list[dict[str, Any]], digest: str) -> dict[bytes, bytes]:
    """Return, for each random name of a component, one that is made of what the component says."""
    named: dict[bytes, bytes] = {}
    texts: dict[bytes, int] = {}
    for each in components:
        reference = str(each["bom-ref"]).encode()
        if _UUID.fullmatch(reference):
            text = canonical({name: value for name, value in each.items() if name != "bom-ref"})
            texts[text] = texts.get(text, 0) + 1
            own = uuid.uuid5(uuid.NAMESPACE_URL, f"{digest} {texts[text]} {text.decode()}")
            named[reference] = str(own).encode()
    return named


def settle_spdx(data: bytes, repository: str, digest: str, created: int) -> bytes | None:
    """Return an SPDX document of the same image; None for what is none."""
    document = parse_object(data)
    try:
        if document is None or not document["spdxVersion"].startswith("SPDX-2"):
            return None
        document["name"] = f"{repository}@{digest}"
        document["documentNamespace"] = f"https://imagetiers.dev/spdx/{digest.removeprefix('sha256:')}"
        document["creationInfo"]["created"] = _time(created)
        for package in document["packages"]:
            for annotation in package.get("annotations", ()):
                annotation["annotationDate"] = _time(created)
    except (KeyError, TypeError, AttributeError):
        return None
    return canonical(document)


def component_count(name: str, document: dict[str, Any]) -> int:
    """Return how many components (packages, in SPDX) a document of that kind lists."""
    listed = document.get("packages" if name == "spdx" else "components")
    return len(listed) if isinstance(listed, list) else 0


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _purl(repository: str, digest: str) -> str:
    name = repository.rpartition("/")[2]
    return f"pkg:oci/{name}@{digest.replace(':', '%3A')}?repository_url={repository.replace('/', '%2F').replace(':', '%3A')}"
