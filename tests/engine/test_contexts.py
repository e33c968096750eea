"""Named contexts: what a Dockerfile takes from another tier, and from an outside image, is in the image and in its key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import Checkout, docker, forget_images, make_checkout, remove_all, use_registry
from tests.registry.server import RegistryServer

PIPELINE = """\
version: 1
name: contexts
tiers:
  app:
    bases: {BASE: "debian:trixie-slim"}
    contexts: {assets: {tier: web}, tools: {image: "debian:trixie-slim"}}
  web: {bases: {BASE: "debian:trixie-slim"}}
"""
WEB = """\
ARG BASE
FROM ${BASE} AS made
COPY page /made/page
RUN tr a-z A-Z </made/page >/made/PAGE

FROM scratch
COPY --from=made /made/ /
"""
APP = """\
ARG BASE
FROM tools AS tool
RUN sha256sum /usr/bin/sort >/sum

FROM ${BASE}
COPY --from=assets /PAGE /srv/
COPY --from=tool /sum /srv/
RUN --mount=type=bind,from=assets,target=/mnt cat /mnt/page >/srv/page
COPY own /srv/
"""


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


@pytest.fixture
def contexts(tmp_path: Path) -> Iterator[Checkout]:
    source = tmp_path / "source"
    write(
        source,
        {
            "pipeline.yaml": PIPELINE,
            "images/web/Dockerfile": WEB,
            "images/web/.image-manifest": "page\n",
            "images/web/page": "one\n",
            "images/app/Dockerfile": APP,
            "images/app/.image-manifest": "own\n",
            "images/app/own": "own\n",
        },
    )
    made = make_checkout(source, tmp_path / "checkout")
    yield made
    remove_all(made)


def content(checkout: Checkout, place: str = "") -> str:
    return docker("run", "--rm", f"{place}{checkout.name}/app:latest", "cat", "/srv/PAGE", "/srv/page", "/srv/own")


def test_what_is_taken_from_another_tier_is_built_first_and_is_in_the_key(contexts: Checkout) -> None:
    first = contexts.doit()
    assert first.code == 0, first.text
    assert first.executed[:2] == ["image:web", "image:app"], "the tier that is taken from stands behind it in the file"
    assert content(contexts) == "ONE\none\nown\n"
    before = contexts.plan()
    assert before["app"]["manifest"]["contexts"] == {"assets": before["web"]["key"], "tools": "debian:trixie-slim"}  # type: ignore[index]
    assert contexts.doit().executed == []

    contexts.edit("images/web/page", "one", "two")
    planned = contexts.doit("plan")
    assert re.search(r"app +build .*context assets changed", planned.out), planned.out
    explained = contexts.doit("explain", "app")
    assert "context changed" in explained.out, explained.out
    assert "images/web/page:1" in explained.out, explained.out
    second = contexts.doit()
    assert second.code == 0, second.text
    assert second.executed[:2] == ["image:web", "image:app"]
    assert content(contexts) == "TWO\ntwo\nown\n"

    contexts.edit("images/app/own", "own", "mine")
    third = contexts.doit()
    assert "image:web" not in third.executed, "an edit of what takes rebuilds nothing that is taken from"
    assert content(contexts) == "TWO\ntwo\nmine\n"


def test_one_that_is_published_is_taken_from_the_registry(contexts: Checkout, registry_server: RegistryServer) -> None:
    use_registry(contexts, registry_server)
    base = f"{registry_server.host}/base/debian:trixie-slim"
    contexts.edit("pipeline.yaml", 'debian:trixie-slim"}}', f'{base}"}}}}')
    contexts.edit("pipeline.yaml", 'web: {bases: {BASE: "debian:trixie-slim"', f'web: {{bases: {{BASE: "{base}"')
    first = contexts.doit()
    assert first.code == 0, first.text
    pushed = [task for task in first.executed if task.startswith("push:")]
    assert pushed == ["push:web", "push:app"]

    forget_images(contexts)
    contexts.edit("images/app/own", "own", "mine")
    second = contexts.doit()
    assert second.code == 0, second.text
    assert [task for task in second.executed if task.startswith("image:")] == ["image:app"], "web is in the registry"
    assert content(contexts, f"{registry_server.host}/") == "ONE\none\nmine\n"
