"""The tasks `setup` and `teardown`: what a pipeline needs outside, through its own Terraform."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.tasks.act import Act
from imagetiers.tasks.options import option, string, switch

__all__ = ["setup_tasks"]

_FOLDER = "ci/terraform"


def setup_tasks(act: Act) -> Iterator[dict[str, Any]]:
    """Yield the tasks; `act` runs their work in a session and turns failures into texts."""

    def setup(folder: str, yes: bool) -> TaskFailed | None:  # noqa: FBT001  doit passes options so
        from imagetiers.operations.setup import change_infrastructure
        from imagetiers.planning.infrastructure import UP

        return act(lambda session: change_infrastructure(session, UP, Path(folder), agreed=yes))

    def teardown(folder: str, yes: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations.setup import change_infrastructure
        from imagetiers.planning.infrastructure import DOWN

        return act(lambda session: change_infrastructure(session, DOWN, Path(folder), agreed=yes))

    for action, doc in (
        (setup, "make what the pipeline needs outside, by the project's Terraform: a dry run, a question, then that"),
        (teardown, "take down what doit setup has made, and nothing else: a dry run, a question, then that"),
    ):
        yield {
            "basename": action.__name__,
            "actions": [action],
            "doc": doc,
            "params": [
                option(
                    "folder",
                    f"where its *.tf files are, from the repository's root (default: {_FOLDER})",
                    string("names no folder", "a path, such as ci/terraform"),
                    default=_FOLDER,
                ),
                switch("yes", "ask nobody"),
            ],
            "io": {"capture": False},
            "meta": {"quiet": True},
        }
