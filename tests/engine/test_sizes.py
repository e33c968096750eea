"""What images weigh, on the real engine and registry: the line that did it, budgets that fail, and what an update costs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, make_checkout, read_image, remove_all, use_registry
from tests.registry.server import RegistryServer

DOCKERFILE = """\
ARG PARENT
FROM ${PARENT}
ARG NAME=x
ENV A=1
COPY --chmod=755 config/ /config/
USER root
RUN head -c 3000000 /dev/urandom > /large && mkdir /few && cp /large /few/copy
RUN chmod 600 /large
WORKDIR /srv
RUN rm -r /few && echo "${NAME}" > /name
USER 10001
"""


@pytest.fixture
def checkout(tmp_path: Path, registry_server: RegistryServer) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    (made.root / "images" / "arr-base" / "Dockerfile").write_text(DOCKERFILE)
    use_registry(made, registry_server)
    yield made
    remove_all(made)


def test_an_image_weighs_its_files_whatever_the_engine_keeps_beside_them(checkout: Checkout) -> None:
    built = checkout.doit("image:arr-base")
    assert built.code == 0, built.text
    ref = next(ref for ref in checkout.refs() if "/arr-base:" in ref)
    files = sum(layer.size for layer in read_image(ref).layers)
    said = [
        tier["image"]["size"]
        for tier in json.loads(checkout.doit("status", "--json", "-").out)["tiers"]
        if tier["image"]
    ]
    recorded = max(record["size"] for record in checkout.records("image"))  # type: ignore[type-var]

    # Blocks on the disk in containerd's image store, the files themselves with a graph driver.
    assert files <= max(said) <= 1.3 * files
    assert recorded == max(said)


def test_the_lines_that_made_it_and_the_budgets_that_it_breaks(checkout: Checkout) -> None:
    built = checkout.doit("push:arr-base")
    assert built.code == 0, built.text
    shown = checkout.doit("size", "arr-base")

    assert shown.code == 0, shown.text
    where = "images/arr-base/Dockerfile"
    layers = re.findall(rf"^ +([0-9.]+ [kM]B) +([0-9.]+ [kM]B)  {where}:(\d+)  ", shown.out, re.MULTILINE)
    assert [(size, line) for size, _, line in layers] == [("6 MB", "7"), ("3 MB", "8")]
    assert "6 MB stand there twice" in shown.out
    assert re.search(rf"3 MB  removed: 1 file, such as /few/copy, by {where}:10$", shown.out, re.MULTILINE)
    assert re.search(rf"3 MB  the same content again.*such as /large, by {where}:8$", shown.out, re.MULTILINE)

    # The friendly tag now has that image: of one with a larger layer, somebody who has the tag's pulls the new layers alone.
    checkout.edit(where, "head -c 3000000", "head -c 5000000")
    limits = "{growth: 1MB, layer: 4MB, duplicate_bytes: 1KB}"
    checkout.edit(
        "pipeline.yaml", "arr-base: {parent: pytorch-clean", f"arr-base: {{budget: {limits}, parent: pytorch-clean"
    )
    refused = checkout.doit("push:arr-base")
    told = re.sub(r"\b[0-9.]+ (MB|kB)", "N", refused.err)

    assert refused.code == 1
    assert re.search(r"verify:arr-base: the image is N larger than \S+/arr-base:latest, and may be N", told)
    assert f"{where}:7: a layer is N, and may be N: RUN head" in told
    assert f"{where}:8: a layer is N, and may be N: RUN chmod 600 /large" in told
    assert "verify:arr-base: N stand in the image twice, and N may; most of it:" in told

    checkout.edit("pipeline.yaml", limits, "{growth: 9MB, layer: 10MB, duplicate_bytes: 11MB}")
    passed = checkout.doit("verify:arr-base")
    assert passed.code == 0, passed.text
    assert "verify:arr-base: 6 checks passed" in passed.out
    again = checkout.doit("verify:arr-base", "size", "arr-training")
    assert again.code == 1
    assert "hint: doit image:arr-training" in again.err
