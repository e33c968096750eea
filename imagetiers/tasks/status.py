"""The tasks `status`, `size`, `report`, `metrics` and `tui`: what there is and was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import Problem
from imagetiers.extras import missing_extra
from imagetiers.planning.plan import Plan
from imagetiers.session import Session
from imagetiers.tasks.invocation import Act, UnknownTiers
from imagetiers.tasks.options import age, duration, option, string, switch, where_called

__all__ = ["report_task", "seeing_tasks", "size_task", "status_task"]


def status_task(act: Act, plans: Callable[[], Iterable[Plan]]) -> dict[str, Any]:
    """Return the task; `act` runs its work in a session and turns failures into texts, `plans` makes those of all variants."""

    def show(json: str, watch: int) -> TaskFailed | None:
        from imagetiers.operations.status import show_status, watch_status

        if watch:
            return act(lambda session: watch_status(session, watch))
        return act(lambda session: show_status(session, to=where_called(json), plans=plans))

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


def size_task(act: Act, unknown_tiers: UnknownTiers) -> dict[str, Any]:
    """Return the task; `unknown_tiers` names those that there are not."""

    def show(tiers: list[str]) -> TaskFailed | None:
        from imagetiers.operations.size import show_size

        def each(session: Session) -> None:
            for name in tiers or session.plan.images:
                show_size(session, session.plan.tiers[name])

        return act(each)

    return {
        "actions": [show],
        "doc": "show what images weigh, by layer, folder and package, and what is in them twice: doit size [TIER...]",
        "pos_arg": "tiers",
        "meta": {"quiet": True, "wrong": partial(unknown_tiers, "doit size")},
    }


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


def seeing_tasks(act: Act, whole: Callable[[], Session]) -> Iterator[dict[str, Any]]:
    """Yield the tasks; `whole` returns the session with all that its plan is made of."""

    def metrics(out: str) -> TaskFailed | None:
        from imagetiers.operations.metrics import show_metrics

        return act(lambda session: show_metrics(session, to=where_called(out)))

    def tui() -> TaskFailed | None:
        from imagetiers.tui.app import TiersApp

        return act(lambda _: TiersApp(whole()).run())

    yield {
        "basename": "metrics",
        "actions": [metrics],
        "doc": "write what the cache holds and how builds went, as Prometheus reads it (--out FILE)",
        "params": [
            option(
                "out",
                "write it to this file (- = stdout)",
                string("names no file", "a path, or - for the standard output"),
                default="-",
            )
        ],
        "meta": {"quiet": True, "wrong": _needs("prometheus_client", "metrics", "doit metrics")},
    }
    yield {
        "basename": "tui",
        "actions": [tui],
        "doc": "look at the pipeline on the screen, and run what one would type",
        "io": {"capture": False},
        "meta": {"quiet": True, "wrong": _needs("textual", "tui", "doit tui")},
    }


def _needs(module: str, extra: str, command: str) -> Callable[[Mapping[str, Any], list[str]], list[Problem]]:
    def wrong(_options: Mapping[str, Any], _words: list[str]) -> list[Problem]:
        missing = missing_extra(module, extra, command, "this")
        return [] if missing is None else [missing]

    return wrong
