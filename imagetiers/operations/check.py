"""check: what is right, and how the GPUs of each variant run what is compiled for them."""

from __future__ import annotations

from collections.abc import Iterable

from imagetiers.planning.gpus import compiled_for
from imagetiers.planning.plan import Plan
from imagetiers.report.gpus import gpu_lines, unused_line
from imagetiers.services import Console

__all__ = ["show_check"]


def show_check(plans: Iterable[Plan], console: Console) -> None:
    """Print it of a pipeline without problems, planned in all its variants, the base first."""
    base, *variants = plans
    names = ", ".join(str(plan.pipeline.variant) for plan in variants) or "none"
    console.line(f"pipeline.yaml: {len(base.tiers)} tiers are right, in every variant ({names}) too")
    for plan in (base, *variants):
        title = f"variant {plan.pipeline.variant}: " if plan.pipeline.variant else ""
        found = compiled_for(plan)
        for compiled in found:
            first, *rest = gpu_lines(compiled)
            for line in (title + first, *rest):
                console.line(line)
        if plan.pipeline.gpus and not found:
            console.line(title + unused_line(plan.pipeline.gpus))
