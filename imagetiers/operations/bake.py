"""bake: write the plan as a bake file, and the build contexts that it names."""

from __future__ import annotations

import json
from pathlib import Path

from imagetiers.building.folders import keep_folders
from imagetiers.errors import OutputError, Problem, os_problem
from imagetiers.operations.outfile import write_out
from imagetiers.report.bake import bake_file
from imagetiers.session import Session

__all__ = ["write_bake"]


def write_bake(session: Session, *, to: str) -> None:
    """Write the bake file of the session's plan, which has the contents of its files, to a path (`-`: standard output).

    Its build contexts are kept beside the cache, as long as none other is written of the same variant. Paths are relative to
    the folder of pipeline.yaml: there bake is to be run. Raises OutputError.
    """
    root, place = session.layout.root, session.layout.bake(session.plan.pipeline.variant)
    bake = bake_file(session.plan)
    with session.services.locks.hold(f"bake-{place.name}", "bake"):
        try:
            keep_folders(place, bake.folders)
        except OSError as error:
            problem = os_problem(error)
            raise OutputError(Problem(str(place), f"cannot be written: {problem.what}", problem.hint)) from error
        shown = place.relative_to(root) if place.is_relative_to(root) else place
        text = json.dumps(bake.document(str(shown)), indent=2, sort_keys=True) + "\n"
        write_out(Path("/dev/stdout" if to == "-" else to), text, f"--out {to}")
