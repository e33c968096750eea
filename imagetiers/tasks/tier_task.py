"""A tier's tasks, for thousands of tiers: which of them a command needs, and one that takes less memory than doit's."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doit.task import Task

if TYPE_CHECKING:
    from imagetiers.events import Events

__all__ = ["ASKED", "VERBS", "Asked", "TierTask", "verbs_of"]

VERBS = frozenset({"compile", "image", "verify", "pull", "push"})
_NEEDS = {
    "compile": {"compile", "image"},  # it may compile in its parent's image
    "image": {"compile", "image"},
    "verify": {"compile", "image", "verify"},
    "push": {"compile", "image", "verify", "push"},
    "pull": {"pull"},
}
_OTHERS = frozenset(
    {
        "bake",
        "cache",
        "ccache",
        "check",
        "cloudbuild",
        "gc",
        "lock",
        "metrics",
        "plan",
        "report",
        "status",
        "trust",
        "tui",
    }
)


_STAYS = {"_action_instances", "_actions", "clean_actions", "custom_title", "teardown", "uptodate", "value_savers"}
"""Attributes of a task that are not taken to a worker: they may hold closures."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of a command that runs tasks, or (`groups`) that only shows which groups of them there are.

    `events` is told what happens, None: nobody asks.
    """

    words: tuple[str, ...] = ()
    groups: bool = False
    events: Events | None = None


ASKED: ContextVar[Asked | None] = ContextVar("asked", default=None)
"""What the command line asks for, known before doit makes tasks; None of a command that may ask for any."""


def verbs_of(asked: Asked | None, default: tuple[str, ...]) -> frozenset[str]:
    """Return the verbs of the tasks of tiers that are needed; all of them, unless every word is known to need fewer."""
    if asked is None:
        return VERBS
    if asked.groups:
        return frozenset()
    named = {word.partition(":")[0] for word in asked.words or default if not word.startswith("-")}
    if not named <= VERBS | _OTHERS:
        return VERBS
    return frozenset(verb for name in named - _OTHERS for verb in _NEEDS[name])


class TierTask(Task):
    """A task of a tier. Its attributes lie in slots, which take a third of what doit's own task takes for them."""

    __slots__ = (
        "_action_instances", "_actions", "_remove_targets", "calc_dep", "cfg_values", "clean_actions", "creator_params",
        "custom_title", "dep_changed", "doc", "executed", "file_dep", "getargs", "has_subtask", "io", "loader", "meta",
        "name", "options", "params", "pos_arg", "pos_arg_val", "result", "setup_tasks", "subtask_of", "targets", "task_dep",
        "teardown", "uptodate", "value_savers", "values", "verbosity", "watch", "wild_dep",
    )  # fmt: skip

    def __init__(self, verb: str, tier: str, **attributes: Any) -> None:
        super().__init__(f"{verb}:{tier}", **attributes)  # type: ignore[no-untyped-call]
        self.subtask_of = verb

    def pickle_safe_dict(self) -> dict[str, Any]:
        """Return what `doit -n` takes to another worker and back; doit's own reads it from a dictionary of attributes."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in _STAYS and hasattr(self, name)}

    def update_from_pickle(self, pickle_obj: dict[str, Any]) -> None:
        """Take over what a worker has changed."""
        for name, value in pickle_obj.items():
            setattr(self, name, value)
