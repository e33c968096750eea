"""SBOMs that are the same bytes each time, whatever random names, times and order a scanner gives them."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

from imagetiers.planning.sboms import component_count, settle_cyclonedx, settle_spdx

REPOSITORY, DIGEST = "registry.example/p/app", "sha256:" + "a" * 64


def cyclonedx(seed: int) -> bytes:
    """A document as trivy writes one: random names, an order that follows from them, this machine's words."""
    chance = random.Random(seed)
    names = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(4)]
    root, system, one, other = names
    components: list[dict[str, Any]] = [
        {"bom-ref": system, "type": "operating-system", "name": "debian"},
        {"bom-ref": one, "type": "library", "name": "vendored"},
        {"bom-ref": other, "type": "library", "name": "other"},
        {"bom-ref": "pkg:deb/debian/zlib@1", "type": "library", "name": "zlib"},
    ]
    return json.dumps(
        {
            "bomFormat": "CycloneDX", "serialNumber": f"urn:uuid:{uuid.UUID(int=chance.getrandbits(128), version=4)}",
            "metadata": {
                "timestamp": f"2026-11-{seed:02}T00:00:00Z",
                "component": {
                    "bom-ref": root, "name": f"/tmp/machine-{seed}/image.tar",
                    "properties": [
                        {"name": "aquasecurity:trivy:RepoTag", "value": f"mine:{seed}"},
                        {"name": "x", "value": "1"},
                    ],
                },
            },
            "components": sorted(components, key=lambda each: str(each["bom-ref"])),
            "dependencies": [
                {"ref": name, "dependsOn": sorted(names, key=lambda _: chance.random())} for name in sorted(names)
            ],
        }
    ).encode()  # fmt: skip


def test_a_cyclonedx_document_is_the_same_each_time() -> None:
    first, second = (settle_cyclonedx(cyclonedx(seed), REPOSITORY, DIGEST, 0) for seed in (1, 2))

    assert first is not None
    assert first == second
    document = json.loads(first)
    assert document["metadata"]["component"]["name"] == REPOSITORY
    assert document["metadata"]["component"]["properties"] == [{"name": "x", "value": "1"}]
    assert component_count("cyclonedx", document) == 4
    assert len({each["bom-ref"] for each in document["components"]}) == 4
    known = {each["bom-ref"] for each in [*document["components"], document["metadata"]["component"]]}
    assert {name for each in document["dependencies"] for name in [each["ref"], *each["dependsOn"]]} <= known


def test_another_image_has_other_names() -> None:
    assert settle_cyclonedx(cyclonedx(1), REPOSITORY, DIGEST, 0) != settle_cyclonedx(
        cyclonedx(1), REPOSITORY, "sha256:" + "b" * 64, 0
    )


def test_what_is_none() -> None:
    for data in (b"", b"{}", b'{"bomFormat": "CycloneDX"}', b'{"bomFormat": "CycloneDX", "metadata": []}'):
        assert settle_cyclonedx(data, REPOSITORY, DIGEST, 0) is None
    for data in (b"", b"{}", b'{"spdxVersion": 2}', b'{"spdxVersion": "SPDX-2.3"}'):
        assert settle_spdx(data, REPOSITORY, DIGEST, 0) is None
