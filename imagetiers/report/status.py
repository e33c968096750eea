"""The status of all tiers: a tree with a line a tier, and the same as JSON (`schemas/status.schema.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any

from rich.text import Text

from imagetiers.planning.forecast import Sum
from imagetiers.planning.keys import short
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import CompilePlan, Plan
from imagetiers.planning.status import Presence, TierStatus
from imagetiers.planning.vulnerabilities import NOTICE_DAYS
from imagetiers.report.amounts import age_text, size_text
from imagetiers.report.fitted import Fitted
from imagetiers.report.tables import titled

__all__ = ["STYLE", "Lasted", "status_document", "status_table"]

Lasted = Mapping[str, str]
"""How the last compile of a tier's key went, by tier."""

STYLE = {
    Presence.BOTH: "green",
    Presence.LOCAL: "green",
    Presence.REGISTRY: "green",
    Presence.STALE: "yellow",
    Presence.ABSENT: "yellow",
    Presence.WRONG: "red",
    Presence.UNKNOWN: "red",
}
#: Those that say nothing of any tier are left out.
_COLUMNS = (
    *("tier", "state", "why", "key", "digest", "verified", "signed", "waiver"),
    *("size", "change", "over parent", "age", "would take", "wheels"),
)
_RIGHT = {"size", "change", "over parent", "age", "would take"}
#: What a narrow terminal does without, the first one first.
_SPARE = (
    *("digest", "over parent", "wheels", "change", "age", "key"),
    *("signed", "waiver", "size", "would take", "verified", "why", "state"),
)
FORMAT = 1


def status_table(
    plan: Plan, seen: ObservedState, statuses: tuple[TierStatus, ...], now: float, warmth: Lasted
) -> Fitted:
    """Return the tree. `now` in Unix seconds; `warmth` says how the last compiles went."""
    table = titled(plan, "status")
    rows = [_cells(status, seen, now, warmth) for status in statuses]
    columns = [column for column in _COLUMNS if any(row[column] for row in rows)]
    for column in columns:
        wraps = column in {"why", "wheels"}
        table.add_column(column, justify="right" if column in _RIGHT else "left", no_wrap=not wraps, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return Fitted(table, _SPARE, whole_lines=True)


def _cells(status: TierStatus, seen: ObservedState, now: float, warmth: Lasted) -> dict[str, Text | str]:
    image = status.image
    return {
        "tier": _branch(status) + status.tier.name,
        "state": Text(status.presence.value, style=STYLE[status.presence]),
        "why": _why(status),
        "key": short(status.tier.key),
        "digest": status.digest.removeprefix("sha256:")[:12],
        "verified": _verified_text(status),
        "signed": "" if status.signed is None else "yes" if status.signed else Text("no", style="red"),
        "waiver": _waiver_text(status, now),
        "size": size_text(image.size) if image is not None else "",
        "change": _signed(status.change),
        "over parent": _signed(status.over_parent),
        "age": age_text(now - image.created) if image is not None else "",
        "would take": _takes(status),
        "wheels": _wheels_text(status.tier.compile, seen, warmth.get(status.tier.name, "")),
    }


def _branch(status: TierStatus) -> str:
    if not status.depth:
        return ""
    above = "".join("│  " if more else "   " for more in status.lines)
    return above + ("└─ " if status.last else "├─ ")


def _why(status: TierStatus) -> str:
    first = status.why[0].partition("\n")[0] if status.why else ""
    return first + (f" (+{len(status.why) - 1})" if len(status.why) > 1 else "")


def _signed(change: int | None) -> str:
    if change is None:
        return ""
    return "same" if not change else f"{'+' if change > 0 else '-'}{size_text(abs(change))}"


def _takes(status: TierStatus) -> str:
    """Return what a doit would take now; nothing where it would do nothing."""
    if not status.runs:
        return ""
    total = status.outlook
    if total is None or (not total.known and not total.seconds):
        return "unknown"
    return age_text(total.seconds) if total.known else f"> {age_text(total.seconds)}"


def _verified_text(status: TierStatus) -> Text:
    checks = status.tier.verify
    if checks.empty:
        return Text("no checks", style="yellow")
    if not status.verified:
        return Text("no", style="yellow")
    return Text("size only" if checks.only_size else "yes", style="green")


def _waiver_text(status: TierStatus, now: float) -> Text | str:
    """Return the vulnerability whose waiver runs out first, and when."""
    waiver = status.waiver
    if waiver is None:
        return ""
    left = (date.fromisoformat(waiver.until) - datetime.fromtimestamp(now, UTC).date()).days
    when = f"{left} d left" if left > 0 else "runs out today" if not left else "ran out"
    style = "red" if left < 0 else "yellow" if left < NOTICE_DAYS else ""
    return Text(f"{waiver.vulnerability} {when}", style=style)


def _wheels_text(step: CompilePlan | None, seen: ObservedState, warmth: str) -> str:
    if step is None:
        return ""
    have = f"{short(step.key)} {'here' if step.key in seen.wheels else 'not here'}"
    return f"{have}, {warmth}" if warmth else have


def status_document(
    plan: Plan,
    seen: ObservedState,
    statuses: tuple[TierStatus, ...],
    warmth: Lasted,
    *,
    gpus: list[dict[str, Any]],
    notes: list[str],
    device_code: Mapping[str, list[Mapping[str, Any]]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the status as JSON; sizes in bytes, times in seconds. What nobody knows is null.

    `device_code` is by tier: what each library holds, and how each GPU runs it.
    """
    return {
        "format": FORMAT,
        "pipeline": plan.pipeline.name,
        "variant": plan.pipeline.variant,
        "registry": plan.pipeline.registry,
        "tiers": [
            {**_tier_document(status, seen, warmth), "device_code": device_code.get(status.tier.name)}
            for status in statuses
        ],
        "gpus": gpus,
        "unknown": seen.unknown,
        "notes": notes,
    }


def _tier_document(status: TierStatus, seen: ObservedState, warmth: Lasted) -> dict[str, Any]:
    tier, image, step, waiver = status.tier, status.image, status.tier.compile, status.waiver
    wheels = None
    if step is not None:
        wheels = {"key": step.key, "here": step.key in seen.wheels, "last_compile": warmth.get(tier.name)}
    return {
        "tier": tier.name,
        "parent": tier.config.parent,
        "state": status.presence.value,
        "why": list(status.why),
        "runs": list(status.runs),
        "key": tier.key,
        "ref": tier.ref,
        "tags": list(tier.tags),
        "digest": status.digest or None,
        "image": {"id": image.id, "size": image.size, "created": image.created} if image is not None else None,
        "change": status.change,
        "over_parent": status.over_parent,
        "verified": None if tier.verify.empty else status.verified,
        "signed": status.signed,
        "waiver": None if waiver is None else {"vulnerability": waiver.vulnerability, "until": waiver.until},
        "wheels": wheels,
        "would_take": _sum_document(status.outlook),
    }


def _sum_document(total: Sum | None) -> dict[str, Any] | None:
    if total is None:
        return None
    return {"seconds": total.seconds, "low": total.low, "high": total.high, "unknown": list(total.unknown)}
