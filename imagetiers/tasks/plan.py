"""The task `plan`: what would be done, why, what it would take, and whether anything would be built at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import Problem
from imagetiers.tasks.act import Act
from imagetiers.tasks.options import option, string, switch, where_called

__all__ = ["plan_task"]


def _wrong(options: Mapping[str, Any], _: list[str]) -> list[Problem]:
    others = [name for name in ("json", "why", "require_built") if options.get(name)]
    if not options.get("resolved") or not others:
        return []
    shown = ", ".join(f"--{name.replace('_', '-')}" for name in others)
    return [Problem("--resolved", f"does not go together with {shown}", "it shows the pipeline, and plans nothing")]


def plan_task(act: Act) -> dict[str, Any]:
    """Return the task; `act` runs its work in a session and turns failures into texts."""

    def show(json: str, why: bool, require_built: bool, resolved: bool) -> TaskFailed | None:  # noqa: FBT001  doit passes options so
        from imagetiers.operations.plan import show_plan
        from imagetiers.operations.resolved import show_resolved

        if resolved:
            return act(show_resolved)
        to = where_called(json)
        return act(lambda session: show_plan(session, to=to, every_reason=why, require_built=require_built))

    return {
        "actions": [show],
        "doc": "show what would be done, why, and what it would take (--json FILE; --require-built; --resolved: the pipeline)",
        "params": [
            option(
                "json",
                "write the plan with its key documents and forecasts to this file (- = stdout)",
                string("names no file", "a path, or - for the standard output"),
                default="",
            ),
            switch("why", "show every reason"),
            switch(
                "require-built",
                "exit 1 if a compile or an image would run, or nobody can tell: the gate of a deploy job",
            ),
            switch(
                "resolved",
                "show what pipeline.yaml comes to, as YAML: variant, variables, extends and matrices laid out",
            ),
        ],
        "meta": {"quiet": True, "wrong": _wrong},
    }
