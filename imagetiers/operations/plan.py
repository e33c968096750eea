"""plan: what would be done for each tier, why, and what it would take, without doing it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from imagetiers.ccache.namespace import describe
from imagetiers.errors import NotBuiltError, Problem, StoreError
from imagetiers.operations.outfile import write_out
from imagetiers.operations.preconditions import refusals
from imagetiers.planning.decide import Decisions, TierDecision, TierState, by_tier, decide, forgotten, tier_decisions
from imagetiers.planning.forecast import TierForecast
from imagetiers.planning.gpus import compiled_for
from imagetiers.planning.plan import Plan
from imagetiers.report.forecast import forecast_document, forecast_table, total_document
from imagetiers.report.gpus import gpu_document, gpu_line
from imagetiers.report.tables import plan_table
from imagetiers.services import Bar, Services
from imagetiers.session import Session
from imagetiers.state.history import processors, tier_forecasts
from imagetiers.state.observe import observe
from imagetiers.stores.timeout import TimeoutStore
from imagetiers.visible import visible_json

__all__ = ["show_plan"]

_ALL_SHOWN = 100  # tiers; of more, those that nothing is done for are counted and not listed


def show_plan(session: Session, *, to: str = "", every_reason: bool = False, require_built: bool = False) -> None:
    """Print the plan as a table; or write it as JSON, with the key documents, to the file `to` (`-` = stdout).

    What would refuse the run, such as a rule that an image breaks, is told behind it. A cache that does not answer costs a
    note and the forecasts, and seconds at most. With `require_built`, raises NotBuiltError afterwards when anything would be
    built, or when nobody can tell.
    """
    store, notes = TimeoutStore(session.services.store), _Notes(session.services)
    asking = replace(session, services=replace(session.services, store=store, console=notes))
    seen = observe(asking)
    notes.lines += seen.notes
    decisions = decide(session.plan, seen)
    tiers = tier_decisions(session.plan, seen, decisions)
    cpus = processors(session.services) if any(tier.builds for tier in tiers) else 0
    notes.lines += _asked_for(decisions, tiers)
    try:
        outlook = tier_forecasts(asking, tiers, seen, cpus=cpus)
    except StoreError as error:
        outlook = None
        notes.line(f"no forecast: the cache does not say: {describe(error)}")
    if store.error:  # everybody who has asked it says so; once is enough
        silent = f"no forecast: the cache {store.url} is not there, and what it knows is left out: {store.error}"
        notes.lines = [*seen.notes, *_asked_for(decisions, tiers), silent]
    refused = refusals(asking, tiers)
    if refused:
        notes.lines += ["that would be refused, and nothing would run:", *map(str, refused)]
    if to:
        text = _document(session.plan, decisions, tiers, outlook, notes.lines, cpus=cpus)
        if to == "-":
            sys.stdout.write(text)
        else:
            write_out(Path(to), text, f"--json {to}")
    else:
        _print(session.plan, tiers, outlook, session.services, cpus, every_reason=every_reason)
        if seen.unknown is not None:
            session.services.console.line(seen.unknown)
        for line in notes.lines:
            session.services.console.line(line)
    if require_built:
        NotBuiltError.raise_if(_not_built(tiers))


def _asked_for(decisions: Decisions, tiers: tuple[TierDecision, ...]) -> list[str]:
    """Say which forgotten tasks a doit without a task's name does not come to: the wheels of an image that is here."""
    runs = {task for tier in tiers for task in tier.runs}
    return [
        f"{task}: doit forget was asked; it runs with the next doit {task}"
        for task in forgotten(decisions)
        if task not in runs
    ]


class _Notes:
    """A console that keeps its lines: with --json the standard output is JSON and nothing else."""

    def __init__(self, services: Services) -> None:
        self._console = services.console
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def print(self, renderable: object) -> None:
        self._console.print(renderable)

    def write(self, text: str, *, error: bool = False) -> None:
        self._console.write(text, error=error)

    def progress(self, title: str, log: Path | None = None) -> AbstractContextManager[Bar]:
        return self._console.progress(title, log)

    def live(self) -> AbstractContextManager[Callable[[object], None]]:
        return self._console.live()


def _print(
    plan: Plan,
    tiers: tuple[TierDecision, ...],
    outlook: Mapping[str, TierForecast] | None,
    services: Services,
    cpus: int,
    *,
    every_reason: bool,
) -> None:
    whole = every_reason or len(tiers) <= _ALL_SHOWN
    shown = tuple(tier for tier in tiers if whole or not tier.idle)
    if shown:
        services.console.print(plan_table(plan, shown, every_reason=every_reason))
    if len(shown) < len(tiers):
        count = f"{len(tiers) - len(shown):,} of {len(tiers):,} tiers"
        services.console.line(f"{count} are there, and nothing would run for them: doit plan --why shows them, too")
    table = forecast_table(plan, outlook, cpus) if outlook is not None else None
    if table is not None:
        services.console.print(table)
    for compiled in compiled_for(plan):
        services.console.line(gpu_line(compiled))


def _document(
    plan: Plan,
    decisions: Decisions,
    tiers: tuple[TierDecision, ...],
    outlook: Mapping[str, TierForecast] | None,
    notes: list[str],
    *,
    cpus: int,
) -> str:
    machine = plan.pipeline.cloudbuild
    document = plan.document()
    tasks = by_tier(decisions)
    for entry, decision in zip(document["tiers"], tiers, strict=True):
        name = decision.tier.name
        entry.update(state=decision.state.value, why=list(decision.why), runs=list(decision.runs))
        entry["reasons"] = {task: None if decisions[task] is None else str(decisions[task]) for task in tasks[name]}
        entry["forecast"] = forecast_document(outlook[name], machine) if outlook is not None else None
    document["forecast"] = total_document(outlook, machine, cpus) if outlook is not None else None
    document["gpus"] = [gpu_document(compiled) for compiled in compiled_for(plan)]
    document["notes"] = notes
    return visible_json(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)) + "\n"


def _not_built(tiers: tuple[TierDecision, ...]) -> Iterator[Problem]:
    for decision in tiers:
        where, why = f"plan --require-built: {decision.tier.name}", "; ".join(decision.why)
        if decision.unknown:
            hint = "that is no answer: ask again when that is known"
            yield Problem(where, f"nobody can tell whether it is built: {why}", hint)
        elif decision.state is TierState.BUILD:
            built = " ".join(task for task in decision.runs if task.startswith(("compile:", "image:")))
            yield Problem(where, f"is not built, {built} would run: {why}", f"doit explain {decision.tier.name}")
