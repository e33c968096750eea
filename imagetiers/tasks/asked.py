"""What the command line asks for, known before doit makes tasks: it makes those that the command needs."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagetiers.events import Events

__all__ = ["ASKED", "VERBS", "Asked", "verbs_of"]

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
