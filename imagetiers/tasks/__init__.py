"""The only code that knows doit.

All that a dodo.py needs:

from imagetiers.tasks import load_tasks

globals().update(load_tasks(__file__))
"""

from __future__ import annotations

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
    groups = (
        {"task_groups": tasks.groups} if tasks.plan.pipeline.groups else {}
    )  # doit lists a creator of no tasks as one
    return groups | {
        "DOIT_CONFIG": tasks.config,
        "task_check": tasks.check,
        "task_plan": tasks.plan_task,
        "task_compile": tasks.compile,
        "task_image": tasks.image,
        "task_verify": tasks.verify,
        "task_push": tasks.push,
        "task_pull": tasks.pull,
        "task_explain": tasks.explain,
        "task_size": tasks.size,
        "task_scan": tasks.scan,
        "task_supply_chain": tasks.supply_chain,
        "task_lock": tasks.lock,
        "task_status": tasks.status,
        "task_report": tasks.report,
        "task_seeing": tasks.seeing,
        "task_cloudbuild": tasks.cloudbuild,
        "task_bake": tasks.bake,
        "task_ccache": tasks.ccache,
        "task_gc": tasks.gc,
        "task_watch": tasks.watch,
        "task_infrastructure": tasks.infrastructure,
        "task_trust": tasks.trust,
        "task__summary": tasks.summary,
    }
