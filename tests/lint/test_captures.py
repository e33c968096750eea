"""The pictures in the documents: each is there, shows its command, and is what ci/captures.py draws."""

from __future__ import annotations

import runpy
import struct
from typing import Any

import pytest

from tests.conftest import HERE

ROOT = HERE.parent
FOLDER = ROOT / "docs" / "captures"
OURS: dict[str, Any] = runpy.run_path(str(ROOT / "ci" / "captures.py"))


def words_of(picture: str) -> str:
    return picture.replace("&#160;", " ")


def test_each_picture_is_there_and_no_other() -> None:
    pictures = {f"{capture.name}.svg" for capture in OURS["CAPTURES"]} | {f"{page.name}.png" for page in OURS["PAGES"]}
    assert {path.name for path in FOLDER.iterdir()} == pictures


@pytest.mark.parametrize("page", OURS["PAGES"], ids=lambda page: page.name)
def test_the_report_has_its_picture_and_the_readme_shows_it(page: Any) -> None:
    picture = (FOLDER / f"{page.name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (OURS["PAGE_WIDTH"], OURS["PAGE_HEIGHT"])
    assert len(picture) < 300_000, "small enough for a repository"
    assert f"docs/captures/{page.name}.png" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("capture", OURS["CAPTURES"], ids=lambda capture: capture.name)
def test_it_shows_its_command_and_documents_show_it(capture: Any) -> None:
    picture = words_of((FOLDER / f"{capture.name}.svg").read_text(encoding="utf-8"))
    assert f"$ doit variant=quickstart {' '.join(capture.words)}" in picture
    assert "Traceback" not in picture
    assert 'url("http' not in picture, "nothing is fetched from anywhere"
    assert len(picture) < 200_000, "small enough for a repository"
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(f"captures/{capture.name}.svg" in path.read_text(encoding="utf-8") for path in documents)


def test_what_a_terminal_shows_is_drawn_with_its_colours() -> None:
    drawn = OURS["picture"](OURS["CAPTURES"][0], "plain \x1b[32mgreen\x1b[0m\n")
    assert "plain" in drawn
    assert drawn.count('class="status-r') >= 3, "the command, what is plain, and what has a colour"
