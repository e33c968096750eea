"""plan: what would be done for each tier, why, and what it would take, without doing it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from imagetiers.errors import NotBuiltError, Problem, StoreError
from imagetiers.forecast import Outlook
from imagetiers.layout import Layout
from imagetiers.plan import Decision, Plan, State, decide
from imagetiers.ports import Bar, World
from imagetiers.report.forecast import forecast_document, forecast_table, total_document
from imagetiers.report.tables import plan_table
from imagetiers.steps.ccache_space import describe
from imagetiers.steps.forecast import outlooks, processors
from imagetiers.steps.hasty_store import HastyStore
from imagetiers.steps.outfile import write_out
from imagetiers.steps.survey import survey
from imagetiers.visible import visible_json

__all__ = ["show_plan"]


def show_plan(
    plan: Plan,
    layout: Layout,
    world: World,
    *,
    to: str = "",
    every_reason: bool = False,
    require_built: bool = False,
) -> None:
    """Print the plan as a table; or write it as JSON, with the key manifests, to the file `to` (`-` = stdout).

    A cache that does not answer costs a note and the forecasts, and seconds at most. With `require_built`, raises
    NotBuiltError afterwards when anything would be built, or when nobody can tell.
    """
    store, notes = HastyStore(world.store), _Notes(world)
    asking = replace(world, store=store, console=notes)
    seen = survey(plan, layout, asking)
    notes.lines += seen.notes
    decisions = decide(plan, seen)
    cpus = processors(world) if any(decision.state is State.BUILD for decision in decisions) else 0
    try:
        outlook = outlooks(plan, decisions, seen, layout, asking, cpus=cpus)
    except StoreError as error:
        outlook = None
        notes.line(f"no forecast: the cache does not tell: {describe(error)}")
    if store.silent:  # everybody who has asked it says so; once is enough
        silent = f"no forecast: the cache {store.url} is not there, and what it knows is left out: {store.silent}"
        notes.lines = [*seen.notes, silent]
    if to:
        text = _document(plan, decisions, outlook, notes.lines, cpus)
        if to == "-":
            sys.stdout.write(text)
        else:
            write_out(Path(to), text, f"--json {to}")
    else:
        _print(plan, decisions, outlook, world, cpus, every_reason=every_reason)
        if seen.unknown is not None:
            world.console.line(seen.unknown)
        for line in notes.lines:
            world.console.line(line)
    if require_built:
        NotBuiltError.raise_if(_not_built(decisions))


class _Notes:
    """A console that keeps its lines: with --json the standard output is JSON and nothing else."""

    def __init__(self, world: World) -> None:
        self._console = world.console
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def print(self, renderable: object) -> None:
        self._console.print(renderable)

    def progress(self, title: str) -> AbstractContextManager[Bar]:
        return self._console.progress(title)


def _print(
    plan: Plan,
    decisions: tuple[Decision, ...],
    outlook: Mapping[str, Outlook] | None,
    world: World,
    cpus: int,
    *,
    every_reason: bool,
) -> None:
    world.console.print(plan_table(plan, decisions, every_reason=every_reason))
    table = forecast_table(plan, outlook, cpus) if outlook is not None else None
    if table is not None:
        world.console.print(table)


def _document(
    plan: Plan,
    decisions: tuple[Decision, ...],
    outlook: Mapping[str, Outlook] | None,
    notes: list[str],
    cpus: int,
) -> str:
    machine = plan.pipeline.cloudbuild
    document = plan.document()
    for tier, decision in zip(document["tiers"], decisions, strict=True):
        tier.update(state=decision.state.value, why=list(decision.why), runs=list(decision.runs))
        tier["forecast"] = forecast_document(outlook[decision.tier.name], machine) if outlook is not None else None
    document["forecast"] = total_document(outlook, machine, cpus) if outlook is not None else None
    document["notes"] = notes
    return visible_json(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)) + "\n"


def _not_built(decisions: tuple[Decision, ...]) -> Iterator[Problem]:
    for decision in decisions:
        where, why = f"plan --require-built: {decision.tier.name}", "; ".join(decision.why)
        if decision.state is State.UNKNOWN:
            hint = "that is no answer: ask again when it can be told"
            yield Problem(where, f"nobody can tell whether it is built: {why}", hint)
        elif decision.state is State.BUILD:
            built = " ".join(task for task in decision.runs if task.startswith(("compile:", "image:")))
            yield Problem(where, f"is not built, {built} would run: {why}", f"doit explain {decision.tier.name}")
