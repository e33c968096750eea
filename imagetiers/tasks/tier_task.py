"""A tier's task, for thousands of tiers: it keeps what differs between them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from doit.action import BaseAction, create_action
from doit.task import IOConfig, Task

from imagetiers.planning.keys import short
from imagetiers.planning.plan import TierPlan
from imagetiers.tasks.uptodate import SIGNATURE, UpToDate

__all__ = ["TierTask", "TierVerb"]

_STAYS = {"_action_instances", "decided", "tier", "verb"}
"""Attributes of a task that are not taken to a worker: they may hold closures."""


class TierVerb(NamedTuple):
    """What the tasks of a verb have in common, and what each is by its tier. `clean`: None where nothing is to be cleaned."""

    name: str
    noun: Callable[[TierPlan], str]
    params: Sequence[dict[str, Any]]
    action: Callable[..., Any]
    up_to_date: Callable[[TierPlan], UpToDate]
    meta: Callable[[TierPlan], dict[str, Any]]
    clean: Callable[..., Any] | None = None

    def key(self, tier: TierPlan) -> str:
        """Return the first digits of the key of what is made."""
        return short(tier.compile.key if self.name == "compile" and tier.compile is not None else tier.key)


class _Decision:
    """Whether a task has anything to do: asked, it remembers the answer in the task only if it has."""

    __slots__ = ("_task",)

    __signature__ = SIGNATURE

    def __init__(self, task: TierTask) -> None:
        self._task = task

    def __call__(self, task: Any, values: Any) -> bool:
        """Decide. doit goes by the names of these arguments."""
        decided = self._task.verb.up_to_date(self._task.tier)
        done = decided(task, values)
        self._task.decided = None if done else decided
        return done

    @property
    def reason(self) -> str:
        """Why the task runs, as it was last decided; '' when it need not."""
        return "" if self._task.decided is None else self._task.decided.reason

    def __repr__(self) -> str:
        return "up to date" if self._task.decided is None else repr(self._task.decided)


class TierTask(Task):
    """A task of a tier. It keeps its name, whom it waits for, and what doit writes into it.

    All else is the same for all, or is asked of its verb when somebody needs it: a doit that has nothing to do needs it of
    none, and has thousands. So doit's own `__init__`, which would fill all of that in, is not called.
    """

    __slots__ = (
        "_action_instances", "cfg_values", "decided", "dep_changed", "executed", "name", "options", "pos_arg_val", "result",
        "setup_tasks", "task_dep", "tier", "values", "verb", "verbosity",
    )  # fmt: skip

    # What doit would add to, it would add to all: it cannot.
    file_dep = frozenset[str]()  # type: ignore[assignment]
    targets = teardown = value_savers = watch = wild_dep = ()  # type: ignore[assignment]
    creator_params: list[Any] = []  # noqa: RUF012  doit puts its options behind those of `params`
    getargs: Mapping[str, Any] = MappingProxyType({})
    loader = pos_arg = None
    has_subtask = _remove_targets = False
    io = IOConfig({"capture": False})

    def __init__(self, name: str, verb: TierVerb, tier: TierPlan, after: Iterable[str], before: Iterable[str]) -> None:
        self.name, self.verb, self.tier = name, verb, tier
        self.task_dep, self.setup_tasks = list(after), list(before)
        self.decided: UpToDate | None = None
        self._action_instances = self.cfg_values = self.dep_changed = None
        self.options = self.pos_arg_val = self.result = self.verbosity = None
        self.executed = False
        self.values: dict[str, Any] = {}

    @property
    def calc_dep(self) -> set[str]:  # type: ignore[override]  # doit takes a copy, and writes into that
        """Tasks that say what it depends on: none."""
        return set()

    @property
    def subtask_of(self) -> str:
        """The group that it belongs to."""
        return self.verb.name

    @property
    def doc(self) -> str:
        """What `doit list --all` says of it."""
        return f"{self.verb.noun(self.tier)} {self.verb.key(self.tier)} of {self.tier.name}"

    @property
    def params(self) -> Sequence[dict[str, Any]]:
        """Its options."""
        return self.verb.params

    @property
    def uptodate(self) -> list[tuple[_Decision, list[Any], dict[str, Any]]]:
        """Whom doit asks whether it is up to date."""
        return [(_Decision(self), [], {})]

    @property
    def meta(self) -> dict[str, Any]:
        """What `doit_plugins` knows to ask for."""
        return {**self.verb.meta(self.tier), "up_to_date": _Decision(self)}

    @property
    def _actions(self) -> list[tuple[Callable[..., Any], list[TierPlan]]]:  # type: ignore[override]  # doit only reads these
        return [(self.verb.action, [self.tier])]

    @property
    def clean_actions(self) -> list[BaseAction]:  # type: ignore[override]
        """What `doit clean` does for it."""
        return [] if self.verb.clean is None else [create_action((self.verb.clean, [self.tier]), self, "clean")]

    def title(self) -> str:
        """Return its line."""
        return f"{self.name}  {self.verb.key(self.tier)}"

    def pickle_safe_dict(self) -> dict[str, Any]:
        """Return what `doit -n` takes to another worker and back; doit's own reads it from a dictionary of attributes."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in _STAYS}

    def update_from_pickle(self, pickle_obj: dict[str, Any]) -> None:
        """Take over what a worker has changed."""
        for name, value in pickle_obj.items():
            setattr(self, name, value)
