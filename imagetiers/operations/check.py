"""check: what is right, what rules say of the Dockerfiles, and how the GPUs of each variant run what is compiled for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from imagetiers.operations.dockerfiles import hadolint_findings, today
from imagetiers.planning.gpus import compiled_for
from imagetiers.planning.observed import Unknown
from imagetiers.planning.plan import Plan
from imagetiers.report.findings import finding_lines, waiver_lines
from imagetiers.report.gpus import gpu_lines, unused_line
from imagetiers.rules.finding import Finding
from imagetiers.rules.weigh import Weighed, weigh
from imagetiers.services import Console
from imagetiers.session import Session

__all__ = ["CheckedDockerfiles", "check_dockerfiles", "show_check"]


@dataclass(frozen=True, slots=True)
class CheckedDockerfiles:
    """What rules say of a pipeline's Dockerfiles in all its variants. `notes` is what could not be looked at, and why."""

    weighed: Weighed
    variants: dict[Finding, str]
    notes: tuple[str, ...]
    unknown: bool

    def passes(self, *, strict: bool) -> bool:
        """Say whether it may stay so; `strict`: without warnings."""
        weighed = self.weighed
        warned = weighed.warnings or weighed.soon or weighed.unused
        return weighed.passes and not self.unknown and not (strict and warned)

    def lines(self) -> Iterator[str]:
        """Yield all of it, errors first."""
        yield from finding_lines(self.weighed.errors, "error", self.variants)
        yield from finding_lines(self.weighed.warnings, "warning", self.variants)
        yield from waiver_lines(self.weighed)
        yield from self.notes

    @property
    def title(self) -> str:
        """How many of each there are."""
        weighed = self.weighed
        errors = len(weighed.errors) + len(weighed.expired) + self.unknown
        warnings = len(weighed.warnings) + len(weighed.soon) + len(weighed.unused)
        return f"{_count(errors, 'error')} and {_count(warnings, 'warning')} in the Dockerfiles; nothing was run"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def check_dockerfiles(session: Session, plans: Sequence[Plan]) -> CheckedDockerfiles:
    """Look at the Dockerfiles of all variants, the base first. Nothing is built or asked for, but hadolint run where it is."""
    variants: dict[Finding, str] = {}
    for plan in plans:
        prefix = f"variant={plan.pipeline.variant}: " if plan.pipeline.variant else ""
        for tier in plan.tiers.values():
            for finding in tier.findings:
                variants.setdefault(finding, prefix)
    wanted = plans[0].pipeline.hadolint
    notes: list[str] = []
    unknown = False
    if wanted != "off":
        said = hadolint_findings(session, (tier.config for plan in plans for tier in plan.tiers.values()))
        if isinstance(said, Unknown):
            unknown = wanted == "required"
            notes.append(f"{'error: ' if unknown else ''}hadolint's rules were not checked: {said.reason}{_HOW}")
        else:
            variants.update(dict.fromkeys(said, ""))
    waivers = dict.fromkeys(waiver for plan in plans for waiver in plan.pipeline.waivers)
    return CheckedDockerfiles(_once(weigh(variants, waivers, today(session))), variants, tuple(notes), unknown)


def _once(weighed: Weighed) -> Weighed:
    """Leave out what was found already in the same Dockerfile: tiers may share one."""

    def each(findings: Iterable[Finding]) -> tuple[Finding, ...]:
        seen: dict[Finding, Finding] = {}
        for finding in findings:
            seen.setdefault(replace(finding, tier=""), finding)
        return tuple(seen.values())

    return replace(weighed, errors=each(weighed.errors), warnings=each(weighed.warnings), waived=each(weighed.waived))


_HOW = "\n  hint: pip install 'imagetiers[lint]'; or hadolint: off in pipeline.yaml"


def show_check(plans: Iterable[Plan], checked: CheckedDockerfiles, console: Console) -> None:
    """Print it of a pipeline without problems, planned in all its variants, the base first."""
    base, *variants = plans
    names = ", ".join(str(plan.pipeline.variant) for plan in variants) or "none"
    console.line(f"pipeline.yaml: {len(base.tiers)} tiers are right, in every variant ({names}) too")
    for line in checked.lines():
        console.line(line)
    if checked.weighed.waived:
        console.line(f"Dockerfiles: {len(checked.weighed.waived)} findings are waived")
    for plan in (base, *variants):
        title = f"variant {plan.pipeline.variant}: " if plan.pipeline.variant else ""
        found = compiled_for(plan)
        for compiled in found:
            first, *rest = gpu_lines(compiled)
            for line in (title + first, *rest):
                console.line(line)
        if plan.pipeline.gpus and not found:
            console.line(title + unused_line(plan.pipeline.gpus))
