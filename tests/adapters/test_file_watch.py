"""Saves, told by the kernel."""

from __future__ import annotations

from pathlib import Path

from imagetiers.adapters.file_watch import saves


def test_what_changes_in_the_folders_and_not_below_them(tmp_path: Path) -> None:
    here, below, other = tmp_path / "here", tmp_path / "here/below", tmp_path / "other"
    for folder in (here, below, other):
        folder.mkdir()
    told = saves([here])
    assert next(told) is False  # it watches
    (below / "a").write_text("a")
    (other / "a").write_text("a")
    assert next(told) is False
    (here / "a").write_text("a")
    assert next(told) is True
    assert next(told) is False
    # As editors save: a new file takes the place of the old one. And while nobody asks.
    (here / ".a.new").write_text("b")
    (here / ".a.new").replace(here / "a")
    assert next(told) is True
    told.close()  # type: ignore[attr-defined]
