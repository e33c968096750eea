"""The plan as a table, and what tables have in common (rich lays them out; nothing here prints)."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from imagetiers.planning.decide import TierDecision, TierState
from imagetiers.planning.keys import short
from imagetiers.planning.plan import Plan
from imagetiers.report.fitted import Fitted

__all__ = ["plan_table", "titled"]

_STYLE = {
    TierState.FOUND_LOCALLY: "green",
    TierState.FOUND_IN_REGISTRY: "green",
    TierState.BUILD: "yellow",
    TierState.UNKNOWN: "red",
}
_SHOWN_REASONS = 3


def titled(plan: Plan, what: str) -> Table:
    """Return an empty table, titled with the pipeline's name, its variant and `what`."""
    variant = f", variant {plan.pipeline.variant}" if plan.pipeline.variant else ""
    title = f"{plan.pipeline.name}{variant}: {what}"
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")


def plan_table(plan: Plan, decisions: tuple[TierDecision, ...], *, every_reason: bool = False) -> Fitted:
    """Return the plan: state, key, why, and what would run for each tier. Of a reason with a hint only the reason."""
    table = titled(plan, "plan")
    for column in ("tier", "state", "key", "why", "would run"):
        table.add_column(column, overflow="fold", no_wrap=column in {"tier", "state", "key"})
    for decision in decisions:
        shown = decision.why if every_reason else decision.why[:_SHOWN_REASONS]
        more = len(decision.why) - len(shown)
        why = "\n".join(text.partition("\n")[0] for text in shown) + (
            f"\n(+{more} more: doit plan --why)" if more else ""
        )
        table.add_row(
            decision.tier.name,
            Text(decision.state.value, style=_STYLE[decision.state]),
            short(decision.tier.key),
            Text(why),
            " ".join(decision.runs) or "nothing",
        )
    return Fitted(table, ("key", "would run", "state", "why"))
