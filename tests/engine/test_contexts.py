"""Named contexts: what a Dockerfile takes from another tier, a folder or an outside image is in its image and in its key."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers.config.layout import Layout
from imagetiers.errors import Problem
from imagetiers.inputs.snapshot import read_folder
from imagetiers.repository_file import Reads
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


FOLDER = """\
ARG BASE
FROM ${BASE}
COPY --from=data tables /data/
RUN --mount=type=bind,from=data,target=/run.sh,source=run.sh --mount=type=bind,from=data,source=tables,target=/tables \\
 sh /run.sh >/said
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Checkout]:
    source = tmp_path / "source"
    write(
        source,
        {
            "pipeline.yaml": (
                "version: 1\nname: folder\ntiers:\n"
                '  app: {bases: {BASE: "debian:trixie-slim"}, contexts: {data: {path: //shared/data}}}\n'
            ),
            "images/app/Dockerfile": FOLDER,
            "images/app/.image-manifest": "",
            "shared/data/.dockerignore": "# none of these\n**/*.tmp\n!tables/keep.tmp\n",
            "shared/data/tables/a.csv": "1,2\n",
            "shared/data/tables/b.tmp": "left out\n",
            "shared/data/tables/keep.tmp": "kept\n",
            "shared/data/run.sh": "ls -l --time-style=+%Y /tables; cat /tables/*\n",
            "shared/data/other": "nobody takes it\n",
            "shared/beside": "nor this\n",
        },
    )
    made = make_checkout(source, tmp_path / "checkout")
    yield made
    remove_all(made)


def test_of_a_folder_what_is_taken_is_in_the_key_and_nothing_else(folder: Checkout) -> None:
    first = folder.doit()
    assert first.code == 0, first.text
    said = docker("run", "--rm", f"{folder.name}/app:latest", "sh", "-c", "cat /said; ls /data")
    assert [line.split()[-1] for line in said.splitlines()[1:]] == [
        "a.csv",
        "keep.tmp",
        "1,2",
        "kept",
        "a.csv",
        "keep.tmp",
    ]
    assert re.search(r"-rw-r--r-- 1 root root +4 1980 a.csv", said), "as it was hashed: modes and times of our own"
    assert not list((folder.root / ".imagetiers" / "contexts").iterdir())

    for path, old, new in (
        ("shared/data/other", "nobody", "still nobody"),
        ("shared/data/tables/b.tmp", "left out", "still left out"),
        ("shared/data/.dockerignore", "none of these", "a comment"),
        ("shared/beside", "nor", "and not"),
    ):
        folder.edit(path, old, new)
        assert folder.doit().executed == [], path

    folder.edit("shared/data/tables/a.csv", "1,2", "3,4")
    explained = folder.doit("explain", "app")
    assert "shared/data/tables/a.csv:1" in explained.out, explained.out
    assert "+ 3,4" in explained.out, explained.out
    second = folder.doit()
    assert second.executed[0] == "image:app", second.text
    assert docker("run", "--rm", f"{folder.name}/app:latest", "cat", "/data/a.csv") == "3,4\n"

    folder.edit("shared/data/.dockerignore", "!tables/keep.tmp\n", "")
    assert folder.doit().executed[0] == "image:app"
    assert docker("run", "--rm", f"{folder.name}/app:latest", "ls", "/data") == "a.csv\n"


PATTERNS = (
    "*.tmp\n",
    "**/*.tmp\n!a/b/keep.tmp\n",
    "a\n!a/b/c.txt\n",
    "/a/b/\nx?z\n",
    "  a/*  \n# *\n!a/b\n",
    "**\n!**/c.txt\n",
    "a/**/c.txt\n**/[k-m]*\n",
    "a/b/../d\n\\*star\n",
    "**/b\n",
    "*\n!a\na/d\n",
)
TREE = (
    "one.tmp",
    "a/two.tmp",
    "a/b/keep.tmp",
    "a/b/c.txt",
    "a/d/c.txt",
    "a/d/late",
    "xyz",
    "x/z",
    "*star",
    "a.tmp/f",
    "b/b/b",
)


@pytest.mark.parametrize("patterns", PATTERNS)
def test_a_dockerignore_is_read_as_buildkit_reads_it(tmp_path: Path, patterns: str) -> None:
    write(tmp_path / "data", {**dict.fromkeys(TREE, "x\n"), ".dockerignore": patterns})
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY --from=data . /\n")
    command = [
        "docker",
        "buildx",
        "build",
        "--output=type=local,dest=out",
        "--build-context=data=data",
        "-f",
        "Dockerfile",
        ".",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    out = tmp_path / "out"
    theirs = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} - {".dockerignore"}

    problems: list[Problem] = []
    ours = read_folder(Layout(tmp_path), "data", Reads(), problems)

    assert not problems
    assert {file.path for file in ours or ()} == theirs
