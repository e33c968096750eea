"""The plan and the status as tables (rich lays them out; nothing here prints)."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from imagetiers.planning.decide import TierDecision, TierState
from imagetiers.planning.keys import short
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.report.fitted import Fitted

__all__ = ["age_text", "plan_table", "size_text", "status_table", "titled"]

_STYLE = {
    TierState.FOUND_LOCALLY: "green",
    TierState.FOUND_IN_REGISTRY: "green",
    TierState.BUILD: "yellow",
    TierState.UNKNOWN: "red",
}
_SHOWN_REASONS = 3


def size_text(size: int) -> str:
    """Return a size in bytes as people read it, in powers of 1000 as Docker does."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= length:
            return f"{size / length:.3g} {unit}"
    return f"{size} B"


def age_text(seconds: float) -> str:
    """Return an age as people say it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


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


def status_table(plan: Plan, seen: ObservedState, now: float, warmth: Mapping[str, str]) -> Fitted:
    """Return the status: what is here of each tier, and how the last compile went (`warmth`, by tier)."""
    table = titled(plan, "status")
    remote = ("registry",) if plan.pipeline.registry is not None else ()
    for column in ("tier", "key", "image", *remote, "verified", "size", "over parent", "age", "wheels"):
        right = column in {"size", "over parent", "age"}
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "wheels", overflow="fold")
    for tier in plan.tiers.values():
        image = seen.image(tier)
        parent = seen.image(plan.tiers[tier.config.parent]) if tier.config.parent else None
        wheels = ""
        if tier.compile is not None:
            have = "here" if tier.compile.key in seen.wheels else "not here"
            wheels = f"{short(tier.compile.key)} {have}" + (f", {warmth[tier.name]}" if tier.name in warmth else "")
        if seen.unknown is not None:
            state = Text("unknown", style="red")
        else:
            state = Text("here", style="green") if image else Text("absent", style="yellow")
        table.add_row(
            tier.name,
            short(tier.key),
            state,
            *((_registry_text(tier, seen),) if remote else ()),
            _verified_text(tier, seen),
            size_text(image.size) if image else "",
            size_text(image.size - parent.size) if image and parent else "",
            age_text(now - image.created) if image else "",
            wheels,
        )
    return Fitted(table, ("over parent", "wheels", "age", "size", "key", "registry", "verified", "image"))


def _verified_text(tier: TierPlan, seen: ObservedState) -> Text:
    if tier.verify.empty:
        return Text("no checks", style="yellow")
    if not seen.verified(tier):
        return Text("no", style="yellow")
    return Text("size only" if tier.verify.only_size else "yes", style="green")


def _registry_text(tier: TierPlan, seen: ObservedState) -> Text:
    found = seen.registered.get(tier.name)
    if found is None or found.unknown:
        return Text("unknown", style="red")
    if found.wrong:
        return Text("wrong", style="red")
    return Text("here", style="green") if found.digest else Text("absent", style="yellow")
