"""Explanations as text for people."""

from __future__ import annotations

from collections.abc import Iterable

from imagetiers.planning.explain import Explanation, Origin
from imagetiers.planning.keys import short
from imagetiers.report.amounts import age_text

__all__ = ["explanation_text"]


def explanation_text(explanations: Iterable[Explanation], now: float) -> str:
    """Return a paragraph for each tier: what, why, against which build, and the way to the root cause."""
    return "\n".join(line for explanation in explanations for line in _paragraph(explanation, now))


def _paragraph(explanation: Explanation, now: float) -> list[str]:
    lines = [f"{explanation.tier.name} {short(explanation.tier.key)}: {explanation.causes[0].value}"]
    against = explanation.against
    if against is not None:
        age = f", built {age_text(now - against.created)} ago" if against.created else ""
        lines.append(f"  against {short(against.key)} (from {against.where}{age})")
    if not explanation.origins:
        lines.append(f"  {explanation.summary}")
    for origin in explanation.origins:
        if origin.details or origin.note:
            lines += _origin(origin)
    return lines


def _origin(origin: Origin) -> list[str]:
    causes = ", ".join(cause.value for cause in origin.causes)
    lines = [f"  {origin.what}: {causes}" + (f"; {origin.note}" if origin.note else "")]
    for detail in origin.details:
        change = detail.change
        if change.part == "file":
            lines.append(f"    {detail.place}: {str(change).rpartition(' ')[2]}")
        elif detail.place:
            lines.append(f"    {detail.place}: {change.part} {change.name}")
        else:
            lines.append(f"    {change}")
        lines += [f"      {line}" for line in detail.lines]
    return lines
