"""What rules find in the tiers' Dockerfiles: ours, which the plan has, and hadolint's, which is asked where it is wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime
from functools import partial

from imagetiers.config.model import Tier
from imagetiers.dockerfile.parser import parse_dockerfile
from imagetiers.errors import ImagetiersError, PipelineError, Problem
from imagetiers.planning.observed import Unknown
from imagetiers.planning.plan import TierPlan
from imagetiers.report.findings import finding_problems
from imagetiers.repository_file import Reads, read_file
from imagetiers.rules.finding import Finding
from imagetiers.rules.weigh import weigh
from imagetiers.services import Lint
from imagetiers.session import Session
from imagetiers.state.lints import lint_key, recall_lints, remember_lints

__all__ = ["gate_problems", "hadolint_findings", "today"]

_CONFIG = ".hadolint.yaml"
_NO_STAGE = "DL3022"


def today(session: Session) -> date:
    """Return the day (UTC)."""
    return datetime.fromtimestamp(session.services.now(), UTC).date()


def gate_problems(session: Session, tier: TierPlan) -> tuple[Problem, ...]:
    """Return what in a tier's Dockerfile keeps it from being pushed: errors, waivers that ran out, what was not looked at."""
    pipeline = session.plan.pipeline
    findings = list(tier.findings)
    if pipeline.hadolint == "required":
        said = hadolint_findings(session, [tier.config])
        if isinstance(said, Unknown):
            hint = "pip install 'imagetiers[lint]', or hadolint: if-installed in pipeline.yaml"
            return (Problem(f"push:{tier.name}", f"{said.reason}, but pipeline.yaml requires it", hint),)
        findings += said
    weighed = weigh(findings, pipeline.waivers, today(session))
    return tuple(finding_problems(weighed))


def hadolint_findings(session: Session, tiers: Iterable[Tier]) -> tuple[Finding, ...] | Unknown:
    """Return what hadolint says of the Dockerfiles of these tiers; only of those that it has not seen before it is asked.

    Its errors are errors and its warnings are warnings; `info` and `style` are left to whoever runs it by itself.
    """
    layout = session.layout
    contexts = {(tier.name, tier.dockerfile_path): frozenset(tier.contexts) for tier in tiers}
    version = session.services.linter.version()
    if isinstance(version, Unknown):
        return version
    try:
        config = read_file(layout.root / _CONFIG, _CONFIG, Reads())
        texts = {(name, path): read_file(layout.root / path, path, Reads()) or b"" for name, path in contexts}
    except ImagetiersError as error:
        return Unknown(str(error))
    key = partial(lint_key, version, config)
    known = recall_lints(layout)
    new = {key(text): text for text in texts.values() if key(text) not in known}
    if new:
        said = session.services.linter.lint(new.values(), config)
        if isinstance(said, Unknown):
            return said
        known = {**known, **dict(zip(new, said, strict=True))}
        remember_lints(layout, known)
    return tuple(
        finding
        for (name, path), text in texts.items()
        for finding in _findings(name, path, _without_contexts(text, path, known[key(text)], contexts[name, path]))
    )


def _without_contexts(data: bytes, file: str, lints: Iterable[Lint], contexts: Collection[str]) -> Iterator[Lint]:
    """Leave out that a `COPY --from=` names no stage where it names a context: hadolint knows of none."""
    named: set[int] = set()
    if contexts:
        with contextlib.suppress(PipelineError):  # is reported elsewhere
            named = {
                instruction.line
                for stage in parse_dockerfile(data, file).stages
                for instruction in stage.instructions
                if instruction.flag("from") in contexts
            }
    yield from (lint for lint in lints if lint.code != _NO_STAGE or lint.line not in named)


def _findings(tier: str, file: str, lints: Iterable[Lint]) -> Iterable[Finding]:
    for lint in lints:
        if lint.level in {"error", "warning"}:
            yield Finding(lint.code, tier, file, lint.line, lint.message.rstrip("."), lint.level == "error")
