"""cloudbuild: write the files that Cloud Build reads, or say whether they are those of this pipeline."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator

from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.errors import PipelineError, Problem
from imagetiers.operations.outfile import write_out
from imagetiers.planning.plan import Plan
from imagetiers.report.cloudbuild import Mode, build_file, build_text
from imagetiers.session import Session

__all__ = ["write_cloudbuild"]


def write_cloudbuild(session: Session, *, mode: str = "", check: bool = False) -> None:
    """Write the file of `mode` ('' = both). With `check` write nothing: raises PipelineError with a diff if one is stale."""
    modes = (mode,) if mode else Mode.ALL
    if unknown := set(modes) - set(Mode.ALL):
        raise PipelineError(Problem("--mode", f"'{unknown.pop()}' is no mode", f"write {' or '.join(Mode.ALL)}"))
    problems = list(_unsigned(session.plan)) if Mode.TRUSTED in modes else []
    for each in modes:
        name = build_file(session.plan.pipeline.variant, each)
        target = session.layout.root / name
        text = build_text(session.plan, each)
        old = target.read_text(encoding="utf-8") if target.exists() else ""
        if old == text:
            session.services.console.line(f"{name} is up to date")
        elif check:
            problems.append(_stale(session.plan, name, old, text))
        else:
            target.parent.mkdir(exist_ok=True)
            write_out(target, text, name)
            session.services.console.line(f"{name} written")
    PipelineError.raise_if(problems)


def _unsigned(plan: Plan) -> Iterator[Problem]:
    """Say which signatures the build would be refused for, since it has nothing to make them with."""
    pipeline = plan.pipeline
    if (
        pipeline.registry
        and pipeline.supply_chain
        and pipeline.supply_chain.sign
        and not pipeline.cloudbuild.keys.cosign
    ):
        what = "supply_chain.sign asks for signatures, and the build has no key: each of its pushes would be refused"
        yield Problem(
            PIPELINE_FILE, what, "cloudbuild: {keys: {cosign: SECRET, cosign_password: SECRET}}, or a KMS's key"
        )
    if pipeline.trust.require and not pipeline.cloudbuild.keys.signing:
        what = "trust.require asks for signatures, and the build has no key: nobody would believe what it writes"
        yield Problem(PIPELINE_FILE, what, "cloudbuild: {keys: {signing: SECRET}}, or gcpkms://...")


def _stale(plan: Plan, name: str, old: str, new: str) -> Problem:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), name, f"{name}, as it should be", lineterm="", n=1)
    shown = "\n".join(f"    {line}" for line in lines)
    command = shlex.join(["doit", *plan.pipeline.variables, "cloudbuild"])
    return Problem(name, f"is not what pipeline.yaml makes of it:\n{shown}", f"{command} writes it")
