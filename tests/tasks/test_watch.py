"""The words of `doit watch`, and what it takes from the doit of a round."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetiers.events import TaskEnded, encode
from imagetiers.operations.watch import Built
from imagetiers.tasks.options import words
from imagetiers.tasks.watch import _outcome
from tests.conftest import HERE, Golden
from tests.engine.conftest import Checkout

LINES = [
    ("watch",),
    ("watch", "arr-bas", "nothing"),
    ("watch", "--run", "python -m arr", "arr-base", "arr-training"),
    ("watch", "--run", "sh -c 'open", "arr-base"),
    ("watch", "--run=", "arr-base"),
]


def test_a_wrong_line_runs_nothing(offline: Checkout, golden: Golden) -> None:
    told = []
    for line in LINES:
        run = offline.doit(*line)
        assert run.code == 3, run.text
        told.append(f"$ doit {' '.join(repr(word) if ' ' in word else word for word in line)}\n{run.err}")
    golden("\n".join(told), HERE / "golden" / "watch.txt")


def test_a_command_is_split_as_by_a_shell() -> None:
    assert words("python -m arr --say 'good day'") == ("python", "-m", "arr", "--say", "good day")
    assert words("echo $HOME; ls *") == ("echo", "$HOME;", "ls", "*")


@pytest.mark.parametrize(
    ("events", "code", "built"),
    [
        ([("image:base", "up to date", ""), ("image:app", "done", "")], 0, Built(("image:app",))),
        (
            [("image:base", "done", ""), ("image:app", "failed", "a: b"), ("verify:app", "not done", "")],
            1,
            Built(("image:base",), "image:app", "a: b"),
        ),
        ([], 3, Built((), "doit", "what it said")),
        ([], 0, Built()),
    ],
)
def test_what_a_round_has_done(events: list[tuple[str, str, str]], code: int, built: Built, tmp_path: Path) -> None:
    path = tmp_path / "events"
    lines = [encode(TaskEnded(task, outcome, 1.0, error), 5.0) for task, outcome, error in events]
    path.write_text("".join(lines) + '{"event": "task en')  # a doit that was killed as it wrote
    assert _outcome(path, code, "what it said") == built


def test_a_doit_that_has_told_nothing(tmp_path: Path) -> None:
    assert _outcome(tmp_path / "none", 1, "no python") == Built((), "doit", "no python")
