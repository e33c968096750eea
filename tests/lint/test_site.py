"""The documents as a site: every page, every link and every anchor; and the decisions, with their index."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import HERE

REPO = HERE.parent
DECISIONS = sorted((REPO / "docs" / "decisions").glob("*.md"))
PARTS = ["Context.", "Decision.", "Alternatives.", "Price."]


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", str(config)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        [*command, "--site-dir", str(out)], cwd=REPO, env=env, capture_output=True, text=True, check=False
    )


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = build(REPO / "mkdocs.yml", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    for page in ("index.html", "docs/pipeline.html", "docs/decisions/0003-bake-files.html", "images/index.html"):
        assert (tmp_path / page).is_file(), page


def test_each_decision_has_its_parts() -> None:
    assert len(DECISIONS) > 30
    numbers = [int(path.name.partition("-")[0]) for path in DECISIONS]
    assert numbers == sorted(set(numbers))  # those of several branches arrive in any order
    for number, path in zip(numbers, DECISIONS, strict=True):
        text = path.read_text()
        assert path.name.startswith(f"{number:04}-"), path.name
        assert text.startswith(f"# {number}. "), path.name
        assert re.findall(r"^\*\*(\w+\.)\*\*", text, re.MULTILINE) == PARTS, path.name


def test_the_index_has_each_decision_by_its_title() -> None:
    listed = re.findall(
        r"^(\d+)\. \[(.+)\]\(docs/decisions/(.+)\)$", (REPO / "ARCHITECTURE.md").read_text(), re.MULTILINE
    )

    assert [(f"# {number}. {title}", name) for number, title, name in listed] == [
        (path.read_text().partition("\n")[0], path.name) for path in DECISIONS
    ]
