"""The tasks `setup` and `teardown`: what a pipeline needs outside, through its own Terraform, or gcloud where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.tasks.invocation import Act
from imagetiers.tasks.options import form, option, string, switch

__all__ = ["setup_tasks"]

_FOLDER_OPTION = option(
    "folder",
    "where its *.tf files are, from the repository's root (default: ci/terraform)",
    string("names no folder", "a path, such as ci/terraform"),
    default="",
)
_BY_OPTION = option(
    "by",
    "terraform, gcloud, or auto: terraform where there are *.tf files (default: auto)",
    form("auto|terraform|gcloud", "names no program", "write auto, terraform or gcloud"),
    default="auto",
)
_YES = switch("yes", "ask nobody")
_TRIGGER_OPTIONS = (
    option(
        "github",
        "with gcloud: make triggers for this repository, OWNER/NAME",
        form("[A-Za-z0-9-]+/[A-Za-z0-9._-]+", "names no repository on GitHub", "write OWNER/NAME"),
        default="",
    ),
    option(
        "branch",
        "with gcloud: whose pushes are trusted (default: main)",
        string("names no branch", "such as main"),
        default="main",
    ),
)


def setup_tasks(act: Act) -> Iterator[dict[str, Any]]:
    """Yield the tasks; `act` runs their work in a session and turns failures into texts."""

    def setup(folder: str, by: str, github: str, branch: str, yes: bool) -> TaskFailed | None:  # noqa: FBT001  doit passes options so
        from imagetiers.operations.setup import SetupWish, change_infrastructure
        from imagetiers.planning.infrastructure import UP

        asked = SetupWish(Path(folder) if folder else None, by, github, branch, agreed=yes)
        return act(lambda session: change_infrastructure(session, UP, asked))

    def teardown(folder: str, by: str, yes: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.setup import SetupWish, change_infrastructure
        from imagetiers.planning.infrastructure import DOWN

        asked = SetupWish(Path(folder) if folder else None, by, agreed=yes)
        return act(lambda session: change_infrastructure(session, DOWN, asked))

    for action, doc, more in (
        (
            setup,
            "make what the pipeline needs outside, by Terraform or gcloud: a dry run, a question, then that",
            _TRIGGER_OPTIONS,
        ),
        (teardown, "take down what doit setup has made, and nothing else: a dry run, a question, then that", ()),
    ):
        yield {
            "basename": action.__name__,
            "actions": [action],
            "doc": doc,
            "params": [_FOLDER_OPTION, _BY_OPTION, *more, _YES],
            "io": {"capture": False},
            "meta": {"quiet": True},
        }
