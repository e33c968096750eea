"""The only code that knows doit.

All that a dodo.py needs:

from imagetiers.tasks import load_tasks

globals().update(load_tasks(__file__))
"""

from __future__ import annotations

from collections.abc import Callable
from gc import disable
from pathlib import Path
from typing import Any

__all__ = ["load_tasks"]


def load_tasks(dodo: str) -> dict[str, Any]:
    """Return DOIT_CONFIG and the task creators of the pipeline.yaml beside `dodo`, a dodo.py's `__file__`.

    Raises InvalidDodoFile (exit code 3) with all that is wrong with the pipeline or with the command line's variables.
    """
    # Imported here: doit loads this package for its commands before it looks for a dodo.py, in any folder.
    from doit import get_var

    from imagetiers.connect import connect
    from imagetiers.tasks.tasks import Tasks

    # The plan and its tasks live as long as the run: of thousands of tiers, the collector would look at all of them again
    # and again while they are made. The session lets it begin.
    disable()
    tasks = Tasks(Path(dodo).parent, get_var, connect)
    # doit lists a creator of no tasks as if it were one.
    creators: dict[str, Callable[[], Any]] = {"groups": tasks.groups} if tasks.invocation.plan.pipeline.groups else {}
    creators |= {
        "check": tasks.check,
        "plan": tasks.plan,
        "compile": tasks.compile,
        "image": tasks.image,
        "verify": tasks.verify,
        "push": tasks.push,
        "pull": tasks.pull,
        "explain": tasks.explain,
        "size": tasks.size,
        "scan": tasks.scan,
        "supply_chain": tasks.supply_chain,
        "lock": tasks.lock,
        "status": tasks.status,
        "report": tasks.report,
        "seeing": tasks.seeing,
        "cloudbuild": tasks.cloudbuild,
        "bake": tasks.bake,
        "ccache": tasks.ccache,
        "gc": tasks.gc,
        "watch": tasks.watch,
        "infrastructure": tasks.infrastructure,
        "trust": tasks.trust,
        "_summary": tasks.summary,
    }
    return {"DOIT_CONFIG": tasks.config} | {f"task_{name}": _creator(make) for name, make in creators.items()}


def _creator(make: Callable[[], Any]) -> Callable[[], Any]:
    """Return a creator of tasks with little source, for doit takes apart that of each to put them in order."""

    def create() -> Any:
        return make()

    create.__doc__ = make.__doc__
    return create
