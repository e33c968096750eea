"""Problems as GitHub's annotations."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from imagetiers.errors import Problem
from imagetiers.report.annotations import as_annotations


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (
            Problem("pipeline.yaml:3:7", "what\tis 100 % wrong", "cure"),
            "::error file=docs/pipeline.yaml,line=3,col=7::what\tis 100 %25 wrong%0Ahint: cure",
        ),
        (
            Problem("images/a/Dockerfile:12", "warning: root", ""),
            "::warning file=docs/images/a/Dockerfile,line=12::root",
        ),
        (
            Problem("compile:app", "ended; its last lines:\n    a\n    b", "log"),
            "::error title=image%3Aapp::compile:app: ended; its last lines:%0A    a%0A    b%0A  hint: log",
        ),
        (Problem("", "no Docker"), "::error title=image%3Aapp::no Docker"),
    ],
)
def test_each_problem(problem: Problem, expected: str) -> None:
    assert as_annotations(str(problem), "image:app", PurePath("docs")) == [expected]


def test_one_each_and_no_more_than_github_shows() -> None:
    text = "20 problems; nothing was run\n" + "\n".join(str(Problem(f"a.yaml:{line}", "no")) for line in range(1, 21))

    assert as_annotations(text) == [f"::error file=a.yaml,line={line}::no" for line in range(1, 11)]
    assert as_annotations(" \n") == []
