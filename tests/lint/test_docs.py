"""What people read first: it is short, its links lead somewhere, and the commands that it names are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HERE

REPO = HERE.parent
DOCUMENTS = sorted([*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("images/*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"`doit ([^`]+)`|^ {4}(?:\$ )?doit (.*)$", re.MULTILINE)
_DOIT = {"clean", "forget", "help", "ignore", "info", "list", "run"}
_WRONG = {"no-task"}  # which docs/commands.md has for its exit code


def anchors(document: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPO)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in _LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short() -> None:
    assert len((REPO / "README.md").read_bytes()) <= 6000


@pytest.mark.parametrize("program", ["ci/pipeline_docs.py", "ci/rules_docs.py"])
def test_a_reference_is_what_it_is_made_of(program: str) -> None:
    done = subprocess.run([sys.executable, program, "--check"], cwd=REPO, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_commands_that_the_documents_name_are_there() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "doit", "list", "--all", "--quiet"], cwd=REPO, capture_output=True, text=True, check=True
    )
    verbs = {line.strip().partition(":")[0] for line in listed.stdout.splitlines()}
    assert {"image", "verify", "ccache"} <= verbs

    named = {
        word
        for document in DOCUMENTS
        if document.name != "CHANGELOG.md"  # of commands that were
        for first, second in _COMMAND.findall(document.read_text(encoding="utf-8"))
        for word in [next((w for w in (first or second).split() if not w.startswith("-") and "=" not in w), "")]
    }

    unknown = {word for word in named if re.match(r"[a-z]", word)} - _DOIT - _WRONG
    assert {word for word in unknown if word.partition(":")[0] not in verbs} == set()
