"""The tasks `plan`, `explain` and `bake`: what would be done, what it would take and why; and the plan as a bake file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import Problem
from imagetiers.session import Session
from imagetiers.tasks.invocation import Act, UnknownTiers
from imagetiers.tasks.options import option, string, switch, where_called

__all__ = ["bake_task", "explain_task", "plan_task"]


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


def explain_task(act: Act, whole: Callable[[], Session], unknown_tiers: UnknownTiers) -> dict[str, Any]:
    """Return the task; `whole` returns the session with all that its plan is made of."""

    def explain(json: bool, objects: bool, tiers: list[str]) -> TaskFailed | None:  # noqa: FBT001  doit passes options so
        from imagetiers.operations.explain import show_explanations
        from imagetiers.operations.explain_objects import explain_objects

        show = explain_objects if objects else show_explanations
        return act(lambda _: show(whole(), tiers, as_json=json))

    return {
        "actions": [explain],
        "doc": "say why tiers would be built, or --objects compiled: doit explain [--json] [TIER...]",
        "pos_arg": "tiers",
        "params": [
            switch("json", "as JSON"),
            switch("objects", "which objects the last compile has compiled again, and why"),
        ],
        "meta": {"quiet": True, "wrong": partial(unknown_tiers, "doit explain")},
    }


def bake_task(act: Act, whole: Callable[[], Session]) -> dict[str, Any]:
    """Return the task; `act` turns failures into texts, `whole` returns the session with all that its plan is made of."""

    def write(print: bool, out: str) -> TaskFailed | None:  # noqa: A002, ARG001, FBT001  doit passes options so, by their names
        from imagetiers.operations.bake import write_bake

        return act(lambda _: write_bake(whole(), to=where_called(out)))

    return {
        "actions": [write],
        "doc": "write the plan as a file that docker buildx bake builds the same images of (--print; --out FILE)",
        "params": [
            switch("print", "write it and build nothing, as docker buildx bake --print does; there is no other way"),
            option(
                "out",
                "write it to this file (- = stdout)",
                string("names no file", "a path, or - for the standard output"),
                default="-",
            ),
        ],
        "meta": {"quiet": True, "wrong": _builds_nothing},
    }


def _builds_nothing(options: Mapping[str, Any], _words: list[str]) -> list[Problem]:
    if options["print"]:
        return []
    hint = "doit builds the images; doit bake --print --out bake.json writes what docker buildx bake builds"
    return [Problem("doit bake", "builds nothing", hint)]
