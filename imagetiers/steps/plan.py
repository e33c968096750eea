"""plan: what would be done for each tier, and why, without doing it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from imagetiers.layout import Layout
from imagetiers.plan import Plan, decide
from imagetiers.ports import World
from imagetiers.report.tables import plan_table
from imagetiers.steps.survey import survey

__all__ = ["show_plan"]


def show_plan(plan: Plan, layout: Layout, world: World, *, to: str = "", every_reason: bool = False) -> None:
    """Print the plan as a table; or write it as JSON, with the key manifests, to the file `to` (`-` = stdout)."""
    decisions = decide(plan, survey(plan, layout, world))
    if not to:
        world.console.print(plan_table(plan, decisions, every_reason=every_reason))
        return
    document = plan.document()
    for tier, decision in zip(document["tiers"], decisions, strict=True):
        tier.update(state=decision.state.value, why=list(decision.why), runs=list(decision.runs))
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if to == "-":
        sys.stdout.write(text)
        return
    target = Path(to)
    temporary = target.with_name(f".{target.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)
