"""What GitHub's log viewer is told: a group for each task, and annotations for what has failed or was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagetiers.adapters.github import GithubLog, annotate, in_github
from imagetiers.events import Event, Line, RunEnded, TaskBegan, TaskEnded


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    (tmp_path / "images").mkdir()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    monkeypatch.chdir(tmp_path / "images")

    def written(*events: Event) -> list[str]:
        lines: list[str] = []
        take = GithubLog(lines.append)
        for event in events:
            take(event)
        return lines

    return written


def test_a_task_is_a_group(log: Callable[..., list[str]]) -> None:
    assert in_github()
    said = log(
        TaskBegan("image:app", "its Dockerfile changed\nand more"),
        TaskEnded("image:app", "done", 2.0),
        RunEnded(2.0, 1, 0, 0),
    )
    assert said == ["::group::image:app: its Dockerfile changed", "::endgroup::"]


def test_tasks_side_by_side_are_no_groups(log: Callable[..., list[str]]) -> None:
    said = log(
        TaskBegan("image:a", ""), TaskBegan("image:b", ""), TaskEnded("image:a", "done", 1.0), TaskBegan("image:c", "")
    )
    assert said == ["::group::image:a", "::endgroup::"]


def test_failures_and_findings_stand_beside_their_lines(log: Callable[..., list[str]]) -> None:
    failed = TaskEnded("check", "failed", 1.0, "pipeline.yaml:3:5: no such tier\n  hint: doit list")
    assert log(failed) == ["::error file=images/pipeline.yaml,line=3,col=5::no such tier%0Ahint: doit list"]
    assert log(Line("app/Dockerfile:7: warning: apt lists are left")) == [
        "::warning file=images/app/Dockerfile,line=7::apt lists are left"
    ]
    lines: list[str] = []
    annotate("the engine does not answer", lines.append, "image:app")
    assert lines == ["::error title=image%3Aapp::the engine does not answer"]
