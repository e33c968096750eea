"""plan: what would be done for each tier, why, and what it would take, without doing it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from imagetiers.ccache.namespace import describe
from imagetiers.config.layout import Layout
from imagetiers.errors import NotBuiltError, Problem, StoreError
from imagetiers.operations.outfile import write_out
from imagetiers.planning.forecast import TierForecast
from imagetiers.planning.plan import Decision, Plan, TierState, decide
from imagetiers.report.forecast import forecast_document, forecast_table, total_document
from imagetiers.report.tables import plan_table
from imagetiers.services import Bar, Services
from imagetiers.state.history import processors, tier_forecasts
from imagetiers.state.observe import observe
from imagetiers.stores.timeout import TimeoutStore
from imagetiers.visible import visible_json

__all__ = ["show_plan"]


def show_plan(
    plan: Plan,
    layout: Layout,
    services: Services,
    *,
    to: str = "",
    every_reason: bool = False,
    require_built: bool = False,
) -> None:
    """Print the plan as a table; or write it as JSON, with the key manifests, to the file `to` (`-` = stdout).

    A cache that does not answer costs a note and the forecasts, and seconds at most. With `require_built`, raises
    NotBuiltError afterwards when anything would be built, or when nobody can tell.
    """
    store, notes = TimeoutStore(services.store), _Notes(services)
    asking = replace(services, store=store, console=notes)
    seen = observe(plan, layout, asking)
    notes.lines += seen.notes
    decisions = decide(plan, seen)
    cpus = processors(services) if any(decision.state is TierState.BUILD for decision in decisions) else 0
    try:
        outlook = tier_forecasts(plan, decisions, seen, layout, asking, cpus=cpus)
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
        _print(plan, decisions, outlook, services, cpus, every_reason=every_reason)
        if seen.unknown is not None:
            services.console.line(seen.unknown)
        for line in notes.lines:
            services.console.line(line)
    if require_built:
        NotBuiltError.raise_if(_not_built(decisions))


class _Notes:
    """A console that keeps its lines: with --json the standard output is JSON and nothing else."""

    def __init__(self, services: Services) -> None:
        self._console = services.console
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
    outlook: Mapping[str, TierForecast] | None,
    services: Services,
    cpus: int,
    *,
    every_reason: bool,
) -> None:
    services.console.print(plan_table(plan, decisions, every_reason=every_reason))
    table = forecast_table(plan, outlook, cpus) if outlook is not None else None
    if table is not None:
        services.console.print(table)


def _document(
    plan: Plan,
    decisions: tuple[Decision, ...],
    outlook: Mapping[str, TierForecast] | None,
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
        if decision.state is TierState.UNKNOWN:
            hint = "that is no answer: ask again when it can be told"
            yield Problem(where, f"nobody can tell whether it is built: {why}", hint)
        elif decision.state is TierState.BUILD:
            built = " ".join(task for task in decision.runs if task.startswith(("compile:", "image:")))
            yield Problem(where, f"is not built, {built} would run: {why}", f"doit explain {decision.tier.name}")
