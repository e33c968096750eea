"""Our side of the comparison: the same case as a pipeline of one tier, planned as for a user."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from imagetiers.config.layout import Layout
from imagetiers.errors import PipelineError
from imagetiers.inputs.context import context_tar
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import TierPlan
from tests.oracle.buildkit import BASE, Outcome, build, digest, tar_of

__all__ = ["FILES", "Case", "Verdict", "compare", "plan_of"]

FILES: Mapping[str, bytes | str] = {
    "a.txt": b"a\n",
    "b.txt": b"b\n",
    "c d.txt": b"c d\n",
    "d/e.txt": b"e\n",
    "d/s/f.txt": b"f\n",
    "d/l": "../a.txt",
    "lnk": "d/s",
    ".dot": b"dot\n",
    "odd[1].txt": b"odd\n",
    "back\\slash": b"back\n",
    "r.git/x": b"x\n",
    "amd64.txt": b"amd64\n",
    "1": b"one\n",
    "run.sh": b"#!/bin/sh\necho ran > /ran\n",
}
DAY = date(2026, 11, 21)


@dataclass(frozen=True)
class Case:
    """A Dockerfile and the build arguments that it gets. BASE, where it declares it, is the base image."""

    text: str
    args: Mapping[str, str]

    def __str__(self) -> str:
        return f"args {dict(self.args)}\n{self.text}"


@dataclass(frozen=True)
class Verdict:
    """What came of a case. `disagreement` is '' where both sides agree."""

    kind: str  # built, failed, refused, laxer
    why: str = ""
    disagreement: str = ""


def plan_of(case: Case, root: Path) -> TierPlan:
    """Plan the case in a repository of its own. Raises PipelineError where we refuse it."""
    folder = root / "images" / "t"
    if not folder.exists():
        _write_files(folder)
    (folder / "Dockerfile").write_bytes(case.text.encode())
    tier = {"bases": {"BASE": BASE}, "args": dict(case.args)}
    (root / "pipeline.yaml").write_text(json.dumps({"version": 1, "name": "oracle", "tiers": {"t": tier}}))
    return make_plan(load_repository(Layout(root), None), DAY).tiers["t"]


def _write_files(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / ".image-manifest").write_text("**\n")
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def compare(case: Case, root: Path) -> Verdict:
    """Build the case as it was written, and as we would send it, and hold the two images against each other."""
    try:
        tier = plan_of(case, root)
    except PipelineError as error:
        return Verdict("refused", error.problems[0].what)
    written = build(tar_of(FILES, case.text.encode()), {"BASE": BASE, **case.args})
    sent = build(b"".join(context_tar(tier.files, tier.dockerfile)), tier.args, tier.target)
    if not written.built:
        return Verdict("laxer" if sent.built else "failed", written.error)
    if not sent.built:
        return Verdict("built", "", f"BuildKit builds it, and what we send fails: {sent.error}")
    # Where an image takes the Dockerfile itself, each side has the one that it was built from.
    own = (digest(case.text.encode()), digest(tier.dockerfile))
    different = [path for path in written.differs(sent) if (written.content(path), sent.content(path)) != own]
    if different:
        return Verdict("built", "", "\n".join(_shown(path, written, sent) for path in different))
    return Verdict("built")


def _shown(path: str, written: Outcome, sent: Outcome) -> str:
    return f"{path}: written {written.shown(path)}, sent {sent.shown(path)}"
