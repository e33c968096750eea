"""GitHub's log viewer: groups that can be folded, and problems as annotations beside the lines of a change.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from imagetiers.events import Event, Line, RunEnded, TaskBegan, TaskEnded

__all__ = ["GithubLog", "annotate", "in_github"]


_FINDING = re.compile(r":\d+: (warning|error): ")


def in_github() -> bool:
    """Whether this is a step of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotate(text: str, write: Callable[[str], None], title: str = "") -> None:
    """Write the commands for the problems of a text; their files are relative to the current folder."""
    from imagetiers.report.annotations import as_annotations

    for line in as_annotations(text, title, _within()):
        write(line)


def _within() -> Path:
    """Return the current folder as seen from the root of the checkout, as annotations name files."""
    workspace = os.environ.get("GITHUB_WORKSPACE", "")
    folder = Path.cwd()
    return folder.relative_to(workspace) if workspace and folder.is_relative_to(workspace) else Path()


class GithubLog:
    """Groups what a task prints, as long as one runs at a time, and annotates failures."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._running: set[str] = set()
        self._open = False
        self._mixed = False  # with `-n` the lines of several tasks are

    def __call__(self, event: Event) -> None:
        """Take an event."""
        match event:
            case TaskBegan(task, why) if not task.startswith("_"):
                self._end_group()
                self._mixed = self._mixed or bool(self._running)
                self._running.add(task)
                if not self._mixed:
                    self._open = True
                    reason = f": {why.splitlines()[0]}" if why else ""
                    self._write(f"::group::{task}{reason}")
            case TaskEnded(task, outcome, _, error):
                self._end_group()
                self._running.discard(task)
                if outcome == "failed":
                    annotate(error, self._write, task)
            case Line(text) if _FINDING.search(text):
                from imagetiers.report.annotations import in_files

                for line in in_files(text, _within()):
                    self._write(line)
            case RunEnded():
                self._end_group()
            case _:
                pass

    def _end_group(self) -> None:
        if self._open:
            self._write("::endgroup::")
        self._open = False
