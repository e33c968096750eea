"""The task `status`: what there is of each tier, where, and what a doit would take now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doit import get_initial_workdir
from doit.exceptions import TaskFailed

from imagetiers.tasks.act import Act
from imagetiers.tasks.options import duration, option, string

__all__ = ["status_task"]


def status_task(act: Act) -> dict[str, Any]:
    """Return the task; `act` runs its work in a session and turns failures into texts."""

    def show(json: str, watch: int) -> TaskFailed | None:
        from imagetiers.operations.status import show_status, watch_status

        if watch:
            return act(lambda session: watch_status(session, watch))
        # doit has gone to where dodo.py is; the path is relative to where it was called.
        to = json if json in {"", "-"} else str(Path(get_initial_workdir() or ".", json))
        return act(lambda session: show_status(session, to=to))

    return {
        "actions": [show],
        "doc": "show what there is of each tier, and what a doit would take now (--json FILE; --watch 5s)",
        "params": [
            option(
                "json",
                "write it to this file (- = stdout; schemas/status.schema.json)",
                string("names no file", "a path, or - for the standard output"),
                default="",
            ),
            option("watch", "show it anew every so often, until Ctrl-C: 5s, 1m", duration, default=0),
        ],
        "meta": {"quiet": True},
    }
