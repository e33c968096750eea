"""The task `check`: the pipeline's files and what rules say of its Dockerfiles, in every variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidDodoFile, TaskFailed

from imagetiers.errors import PipelineError, Problem
from imagetiers.planning.plan import Plan
from imagetiers.session import Session
from imagetiers.tasks.invocation import Act
from imagetiers.tasks.options import switch
from imagetiers.visible import visible

if TYPE_CHECKING:
    from imagetiers.operations.check import CheckedDockerfiles

__all__ = ["check_task"]


def check_task(
    act: Act, begin: Callable[[], Session], plans: Callable[[], list[Plan]], variants: tuple[str, ...]
) -> dict[str, Any]:
    """Return the task; `plans` makes the plans of all `variants`, and `begin` the session, before anything else runs."""
    found: list[tuple[list[Plan], CheckedDockerfiles]] = []  # once in a doit

    def look(session: Session) -> tuple[list[Plan], CheckedDockerfiles]:
        from imagetiers.operations.check import check_dockerfiles

        if not found:
            made = plans()
            found.append((made, check_dockerfiles(session, made)))
        return found[0]

    def refuse(options: Mapping[str, Any], _words: list[str]) -> tuple[Problem, ...]:
        """Raise InvalidDodoFile (exit code 3) for Dockerfiles that break rules. What else is wrong, the task itself says."""
        try:
            _, checked = look(begin())
        except PipelineError:
            return ()
        if not checked.passes(strict=bool(options.get("strict"))):
            raise InvalidDodoFile(visible("\n".join([checked.title, *checked.lines()])))
        return ()

    def show(session: Session) -> None:
        from imagetiers.operations.check import show_check
        from imagetiers.tasks.reading import pipeline_problems

        try:
            made, checked = look(session)
        except PipelineError:
            PipelineError.raise_if(pipeline_problems(session.layout, variants))
            raise
        show_check(made, checked, session.services.console)

    def check(strict: bool) -> TaskFailed | None:  # noqa: ARG001, FBT001  `refuse` has read it; doit passes options so
        return act(show)

    return {
        "actions": [check],
        "doc": "check the pipeline, and its Dockerfiles by rules, in every variant",
        "params": [switch("strict", "let warnings fail, too")],
        "meta": {"quiet": True, "wrong": refuse},
    }
