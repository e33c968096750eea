"""What a plan would take, as a table and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from imagetiers.config.model import CloudBuild
from imagetiers.planning.forecast import Sum, TierForecast, add_up, all_of, all_pulls, usd
from imagetiers.planning.plan import Plan
from imagetiers.report.amounts import age_text, size_text
from imagetiers.report.fitted import Fitted
from imagetiers.report.tables import titled

__all__ = ["forecast_document", "forecast_table", "total_document", "usd_text"]

Json = dict[str, Any]
_UNKNOWN = "unknown"
_CENT = 0.01


def usd_text(amount: float) -> str:
    """Return dollars as people read them."""
    return f"${amount:,.2f}" if amount >= _CENT or not amount else "< $0.01"


def forecast_table(plan: Plan, tier_forecasts: Mapping[str, TierForecast], cpus: int) -> Fitted | None:
    """Return what each tier would take, and all of them; None where nothing is built or pulled. `cpus`: this engine's."""
    rows = [outlook for outlook in tier_forecasts.values() if outlook.steps or outlook.pulls or outlook.unknown]
    if not rows:
        return None
    machine = plan.pipeline.cloudbuild
    table = titled(plan, "what it would take" + (f" with {cpus} processors" if cpus else ""))
    for column in ("tier", "change", "takes", "from .. to", "records", "pulls at most"):
        right = column in {"records", "pulls at most"}
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "tier", overflow="fold")
    if machine.usd_per_hour is not None:
        table.add_column(f"costs on {machine.worker}", justify="right")
    for outlook in rows:
        size = size_text(sum(pull.bytes for pull in outlook.pulls)) if outlook.pulls else ""
        if not outlook.steps:
            change = _UNKNOWN if outlook.unknown else "found"
            table.add_row(outlook.tier, change, _UNKNOWN if outlook.unknown else "", "", "", size)
        for step in outlook.steps:
            first, told = step is outlook.steps[0], step.here
            table.add_row(
                outlook.tier if first else "",
                step.change.value,
                _seconds(add_up({step.task: told})),
                f"{age_text(told.low)} .. {age_text(told.high)}" if told is not None else "",
                str(told.records) if told is not None else "0",
                size if first else "",
                *_costs(add_up({step.task: step.there}), machine),
            )
    here, there = _all(tier_forecasts)
    table.add_row(
        Text("in turn", style="bold"),
        "",
        _seconds(here),
        f"{age_text(here.low)} .. {age_text(here.high)}" if here.known else "",
        "",
        size_text(all_pulls(tier_forecasts.values())),
        *_costs(there, machine),
    )
    costs = () if machine.usd_per_hour is None else (f"costs on {machine.worker}",)
    return Fitted(table, ("records", "pulls at most", "from .. to", *costs, "change", "takes"))


def _all(tier_forecasts: Mapping[str, TierForecast]) -> tuple[Sum, Sum]:
    """Return all of it on this engine, and on the machine with a price."""
    return all_of(o.here for o in tier_forecasts.values()), all_of(o.there for o in tier_forecasts.values())


def _seconds(total: Sum) -> str:
    if total.known:
        return age_text(total.seconds)
    return f"{age_text(total.seconds)} and {_UNKNOWN}" if total.seconds else _UNKNOWN


def _costs(total: Sum, machine: CloudBuild) -> tuple[str, ...]:
    """Return the cell, or none where no price is stated."""
    if machine.usd_per_hour is None:
        return ()
    amount = usd_text(usd(total.seconds, machine.usd_per_hour))
    return (amount if total.known else f"{amount} and {_UNKNOWN}" if total.seconds else _UNKNOWN,)


def forecast_document(outlook: TierForecast, machine: CloudBuild) -> Json:
    """Return a tier's outlook as `doit plan --json` has it. What is not known is null."""
    return {
        "steps": [
            {
                "task": step.task,
                "change": step.change.value,
                "forecast": step.here.document() if step.here is not None else None,
                "on_machine": step.there.document() if step.there is not None else None,
            }
            for step in outlook.steps
        ],
        **_sums(outlook.here, outlook.there, machine),
        "pulls": [{"what": pull.what, "bytes": pull.bytes} for pull in outlook.pulls],
        "so_far": {
            kind: {"records": one.records, "within": one.within, "error": one.error}
            for kind, one in outlook.accuracy.items()
        },
    }


def total_document(tier_forecasts: Mapping[str, TierForecast], machine: CloudBuild, cpus: int) -> Json:
    """Return what all tiers together would take, one after the other."""
    here, there = _all(tier_forecasts)
    return {
        **_sums(here, there, machine),
        "unknown": list(here.unknown),
        "pull_bytes": all_pulls(tier_forecasts.values()),
        "cpus": cpus,
        "machine": {"name": machine.worker, "cpus": machine.cpus, "usd_per_hour": machine.usd_per_hour},
    }


def _sums(here: Sum, there: Sum, machine: CloudBuild) -> Json:
    price = machine.usd_per_hour
    return {
        "seconds": _range(here, 3600.0),
        "usd": _range(there, price) if price is not None else None,
    }


def _range(total: Sum, per_hour: float) -> Json | None:
    if not total.known:
        return None
    names = ("median", "low", "high")
    return dict(zip(names, (usd(value, per_hour) for value in (total.seconds, total.low, total.high)), strict=True))
