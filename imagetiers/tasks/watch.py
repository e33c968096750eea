"""The task `watch`: build what is saved, and run it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.exceptions import TaskFailed

from imagetiers.errors import Problem
from imagetiers.extras import missing_extra
from imagetiers.session import Session
from imagetiers.tasks.invocation import Act, UnknownTiers
from imagetiers.tasks.options import option, words

if TYPE_CHECKING:
    from imagetiers.operations.watch import Built

__all__ = ["watch_task"]

_COMMAND = "doit watch"
_KEPT_LINES = 20


def watch_task(act: Act, unknown_tiers: UnknownTiers, tiers_of_files: Callable[[], Collection[str]]) -> dict[str, Any]:
    """Return the task; `act` runs its work in a session, `unknown_tiers` names those that there are not.

    `tiers_of_files` returns those that make files and no image.
    """

    def watch(run: tuple[str, ...], tiers: list[str]) -> TaskFailed | None:
        from imagetiers.adapters.file_watch import saves
        from imagetiers.operations.watch import watch as go_on

        return act(
            lambda session: go_on(session, tuple(dict.fromkeys(tiers)), partial(_build, session), saves, run=run)
        )

    def wrong(options: Mapping[str, Any], names: list[str]) -> list[Problem]:
        missing = missing_extra("watchfiles", "watch", _COMMAND, "this")
        return [
            *unknown_tiers(_COMMAND, options, names),
            *_wrong_words(options, names),
            *(_without_image(name) for name in names if options.get("run") and name in tiers_of_files()),
            *([missing] if missing is not None else []),
        ]

    return {
        "basename": "watch",
        "actions": [watch],
        "doc": "build tiers whenever what they are made of is saved: doit watch [--run COMMAND] TIER...",
        "pos_arg": "tiers",
        "params": [
            option(
                "run",
                "a command that runs in the image of the tier, ended and begun anew with each new image",
                words,
                default=(),
            )
        ],
        "io": {"capture": False},
        "meta": {"quiet": True, "wrong": wrong},
    }


def _without_image(name: str) -> Problem:
    return Problem(_COMMAND, f"the tier {name} makes files and no image, in which --run could run", "leave out --run")


def _wrong_words(options: Mapping[str, Any], names: list[str]) -> Iterator[Problem]:
    if not names:
        yield Problem(_COMMAND, "names no tier", "doit watch TIER")
    if options.get("run") and len(set(names)) > 1:
        yield Problem(_COMMAND, "--run needs one tier, in whose image it runs", f"doit watch --run … {names[0]}")


def _build(session: Session, tasks: tuple[str, ...]) -> Built:
    """Run a doit of these tasks, with the variant, variables and trust that are watched. A Ctrl-C ends it, too."""
    import sys
    from collections import deque
    from tempfile import TemporaryDirectory

    from imagetiers.adapters.process import Child
    from imagetiers.tui.command import variables

    said: deque[str] = deque(maxlen=_KEPT_LINES)
    with TemporaryDirectory() as folder:
        events = Path(folder, "events")
        chosen = variables(session.plan.pipeline, session.trust)
        argv = (sys.executable, "-m", "doit", "run", "--events", str(events), *chosen, *tasks)
        # In a session of its own: Ctrl-C reaches us, and it from us, once.
        child = Child(argv, session.layout.root, said.append, apart=True)
        try:
            code = child.wait()
        except BaseException:
            child.interrupt()
            child.wait()
            raise
        return _outcome(events, code, "\n".join(said))


def _outcome(events: Path, code: int, said: str) -> Built:
    """Read what a doit has told of itself; what failed before it told anything is what it printed."""
    from imagetiers.documents import parse_object
    from imagetiers.operations.watch import Built

    lines = events.read_bytes().splitlines() if events.exists() else []
    ended = [
        event for line in lines if (event := parse_object(line)) is not None and event.get("event") == "task ended"
    ]
    done = tuple(str(event["task"]) for event in ended if event["outcome"] == "done")
    failed = next((event for event in ended if event["outcome"] == "failed"), None)
    if failed is not None:
        return Built(done, str(failed["task"]), str(failed["error"]))
    return Built(done, "doit", said) if code else Built(done)
