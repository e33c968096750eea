"""The task `report`: what the cache's records say of the builds so far, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.tasks.act import Act
from imagetiers.tasks.options import age, option, string, switch, where_called

__all__ = ["report_task"]


def report_task(act: Act) -> dict[str, Any]:
    """Return the task; `act` runs its work in a session and turns failures into texts."""

    def report(out: str, since: int | None, publish: bool) -> TaskFailed | None:  # noqa: FBT001  doit passes options so
        from imagetiers.operations.report import write_report

        to = Path("/dev/stdout" if out == "-" else where_called(out))
        return act(lambda session: write_report(session, to=to, since=since, publish=publish))

    return {
        "actions": [report],
        "doc": "write what the records say of the builds so far, as one HTML file (--out FILE; --since 30d; --publish)",
        "params": [
            option(
                "out",
                "write it to this file (- = stdout)",
                string("names no file", "a path, or - for the standard output"),
                default="imagetiers-report.html",
            ),
            option("since", "of builds of the last so long alone: 12h, 30d", age, default=None),
            switch("publish", "put it into the cache, too, always under the same name, and say the link"),
        ],
        "meta": {"quiet": True},
    }
