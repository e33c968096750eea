"""The status of all tiers: a tree with a line a tier, and the same as JSON (`schemas/status.schema.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any

from rich.text import Text

from imagetiers.judging.outcome import FailedVerdict
from imagetiers.planning.forecast import Sum
from imagetiers.planning.keys import short
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.pins import PinState
from imagetiers.planning.plan import CompilePlan, Plan
from imagetiers.planning.status import Presence, ScanState, TierStatus
from imagetiers.planning.vulnerabilities import NOTICE_DAYS
from imagetiers.report.amounts import age_text, size_text
from imagetiers.report.fitted import Fitted
from imagetiers.report.tables import titled

__all__ = ["STYLE", "Failures", "Lasted", "Pins", "Scans", "drift_lines", "status_document", "status_table"]

Lasted = Mapping[str, str]
"""How the last compile of a tier's key went, by tier."""

Scans = Mapping[str, ScanState | None]
"""The last scan of a tier's image, by tier: None where it has an image and nobody has scanned that."""

Pins = Mapping[str, tuple[PinState, ...]]
"""What a tier's pinned images and git refs are by now, by tier."""

Failures = Mapping[str, FailedVerdict]
"""What the last checks of a tier's image have found wrong, by tier; nothing of one that has passed since."""

_NONE: Mapping[str, Any] = MappingProxyType({})
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
    *("tier", "state", "why", "key", "digest", "verified", "signed", "scan", "waiver", "base drift"),
    *("size", "change", "over parent", "age", "takes", "wheels", "outputs"),
)
_RIGHT = {"size", "change", "over parent", "age", "takes"}
#: What a narrow terminal does without, the first one first.
_SPARE = (
    *("digest", "over parent", "wheels", "outputs", "change", "age", "size", "key", "base drift"),
    *("signed", "scan", "waiver", "takes", "verified", "why", "state"),
)
_FORECAST = {"compile", "image"}
FORMAT = 1


def status_table(
    plan: Plan,
    seen: ObservedState,
    statuses: tuple[TierStatus, ...],
    now: float,
    warmth: Lasted,
    *,
    scans: Scans = _NONE,
    pins: Pins = _NONE,
    failures: Failures = _NONE,
) -> Fitted:
    """Return the tree. `now` in Unix seconds; `warmth` says how the last compiles went."""
    table = titled(plan, "status")
    rows = [
        _cells(status, seen, now, warmth)
        | {"scan": _scan_text(status, scans, now), "base drift": _drift_text(pins.get(status.tier.name, ()))}
        | _failed_texts(status, failures.get(status.tier.name))
        for status in statuses
    ]
    columns = [column for column in _COLUMNS if any(row[column] for row in rows)]
    for column in columns:
        wraps = column in {"why", "wheels", "outputs"}
        table.add_column(column, justify="right" if column in _RIGHT else "left", no_wrap=not wraps, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return Fitted(table, _SPARE, whole_lines=True, long=("wheels", "outputs"))


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
        "takes": _takes(status),
        **_made_texts(status.tier.compile, seen, warmth.get(status.tier.name, "")),
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
    """Return what a doit would take now; nothing where it would do nothing. Checks and pushes are in no forecast."""
    if not status.runs:
        return ""
    verbs = {task.partition(":")[0] for task in status.runs}
    if not verbs & _FORECAST:
        return "checks" if "verify" in verbs else "a push"
    total = status.outlook
    if total is None or (not total.known and not total.seconds):
        return "unknown"
    return age_text(total.seconds) if total.known else f"> {age_text(total.seconds)}"


def _verified_text(status: TierStatus) -> Text:
    checks = status.tier.verify
    if status.tier.config.output is not None:
        return Text("")
    if checks.empty:
        return Text("no checks", style="yellow")
    if not status.verified:
        return Text("no", style="yellow")
    return Text("size only" if checks.only_size else "yes", style="green")


def _failed_texts(status: TierStatus, failed: FailedVerdict | None) -> dict[str, Text | str]:
    """Return the cells that say otherwise of an image whose last checks have failed."""
    if failed is None:
        return {}
    texts: dict[str, Text | str] = {"why": Text(str(failed), style="red")}
    return texts if status.verified else texts | {"verified": Text("failed", style="red")}


def _waiver_text(status: TierStatus, now: float) -> Text | str:
    """Return the vulnerability whose waiver runs out first, and when."""
    waiver = status.waiver
    if waiver is None:
        return ""
    left = (date.fromisoformat(waiver.until) - datetime.fromtimestamp(now, UTC).date()).days
    when = f"{left} d left" if left > 0 else "runs out today" if not left else "ran out"
    style = "red" if left < 0 else "yellow" if left < NOTICE_DAYS else ""
    return Text(f"{waiver.vulnerability} {when}", style=style)


def _scan_text(status: TierStatus, scans: Scans, now: float) -> Text | str:
    """Return what the last scan of the image has found, by today's policy, and how old that is."""
    if status.tier.name not in scans:
        return ""
    scan = scans[status.tier.name]
    if scan is None:
        return Text("not scanned", style="yellow")
    judged = scan.judged
    counts = ((len(judged.failing), "fail"), (len(judged.waived), "waived"), (len(judged.passed), "pass"))
    found = ", ".join(f"{count} {what}" for count, what in counts if count) or "clean"
    style = "red" if judged.failing else "green"
    return Text(f"{found} ({age_text(now - scan.at)} ago)", style=style)


def _drift_text(pins: tuple[PinState, ...]) -> Text | str:
    """Return how many of a tier's pins are not what they were pinned to."""
    if not pins:
        return ""
    moved = sum(pin.moved is True for pin in pins)
    if moved:
        return Text(f"{moved} of {len(pins)}", style="yellow")
    return Text("unknown", style="yellow") if any(pin.moved is None for pin in pins) else Text("none", style="green")


def drift_lines(pins: Pins, now: float) -> list[str]:
    """Say which pins are not what they were pinned to, and of which nobody can tell, each once."""
    every = {pin.ref: pin for some in pins.values() for pin in some}
    lines = []
    for ref, pin in sorted(every.items()):
        asked = f"asked {age_text(now - pin.at)} ago"
        if pin.moved is None:
            lines.append(f"{ref}: nobody can tell whether it is what it was pinned to ({asked}): {pin.unknown}")
        elif pin.moved:
            what = f"is now {short(pin.now.removeprefix('sha256:'))}" if pin.now else "is gone"
            lines.append(
                f"{ref}: {what}, and was pinned to {short(pin.pinned.removeprefix('sha256:'))} ({asked}): doit lock"
            )
    return lines


def _made_texts(step: CompilePlan | None, seen: ObservedState, warmth: str) -> dict[str, Text | str]:
    """Return the cells of what a compile makes, wheels or other outputs."""
    texts: dict[str, Text | str] = {"wheels": "", "outputs": ""}
    if step is not None:
        have = f"{short(step.key)} {'here' if step.key in seen.wheels else 'not here'}"
        texts[step.config.made] = f"{have}, {warmth}" if warmth else have
    return texts


def status_document(
    plan: Plan,
    seen: ObservedState,
    statuses: tuple[TierStatus, ...],
    warmth: Lasted,
    *,
    gpus: list[dict[str, Any]],
    notes: list[str],
    device_code: Mapping[str, list[Mapping[str, Any]]] = _NONE,
    scans: Scans = _NONE,
    pins: Pins = _NONE,
    failures: Failures = _NONE,
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
            {
                **_tier_document(status, seen, warmth),
                "scan": _scan_document(scans.get(status.tier.name)),
                "failed": _failed_document(failures.get(status.tier.name)),
                "drift": [_pin_document(pin) for pin in pins.get(status.tier.name, ())],
                "device_code": device_code.get(status.tier.name),
            }
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


def _failed_document(failed: FailedVerdict | None) -> dict[str, Any] | None:
    if failed is None:
        return None
    return {
        "at": failed.at,
        "by": failed.by,
        "checks": [{"tier": each.tier, "check": each.check, "line": each.line} for each in failed.checks],
        "more": failed.more,
    }


def _scan_document(scan: ScanState | None) -> dict[str, Any] | None:
    if scan is None:
        return None
    return {
        "at": scan.at,
        "scanner": scan.scanner,
        "database": scan.database,
        "failing": sorted({each.id for each in scan.judged.failing}),
        "waived": sorted({each.id for each in scan.judged.waived}),
        "passed": len({each.id for each in scan.judged.passed}),
    }


def _pin_document(pin: PinState) -> dict[str, Any]:
    return {
        "ref": pin.ref,
        "pinned": pin.pinned,
        "now": pin.now or None,
        "moved": pin.moved,
        "at": pin.at,
        "unknown": pin.unknown or None,
    }


def _sum_document(total: Sum | None) -> dict[str, Any] | None:
    if total is None:
        return None
    return {"seconds": total.seconds, "low": total.low, "high": total.high, "unknown": list(total.unknown)}
