"""Of thousands of tiers, a command makes the tasks that it needs, and each takes little memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.task import Task

from imagetiers.connect import connect
from imagetiers.tasks.asked import ASKED, VERBS, Asked, verbs_of
from imagetiers.tasks.tasks import Tasks
from imagetiers.tasks.tier_task import TierTask
from tests.engine.conftest import Checkout

DEFAULT = ("image", "verify")


@pytest.mark.parametrize(
    ("words", "verbs"),
    [
        ((), {"compile", "image", "verify"}),
        (("image:app",), {"compile", "image"}),
        (("push", "--rebuild"), VERBS - {"pull"}),
        (("pull:app", "compile"), {"compile", "image", "pull"}),
        (("status", "gc", "cache:gc", "ccache:stats"), set()),
        (("pull*",), VERBS),
        (("verify", "--timeout", "3h"), VERBS),
        (("imege:app",), VERBS),
        (("_summary",), VERBS),
    ],
)
def test_what_a_line_needs(words: tuple[str, ...], verbs: set[str]) -> None:
    assert verbs_of(Asked(words), DEFAULT) == verbs


def test_who_may_ask_for_any_task_finds_all() -> None:
    assert verbs_of(None, DEFAULT) == VERBS
    assert verbs_of(Asked(groups=True), DEFAULT) == set()


def made(checkout: Checkout, asked: Asked | None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Task]:
    monkeypatch.chdir(checkout.root)
    token = ASKED.set(asked)
    try:
        tasks = Tasks(checkout.root, lambda _name, default: default, connect)
        creators: dict[str, Callable[[], object]] = {f"task_{verb}": getattr(tasks, verb) for verb in sorted(VERBS)}
        loaded = ModuleTaskLoader(creators).load_tasks(type("Command", (), {"execute_tasks": True}), [])
    finally:
        ASKED.reset(token)
    return {task.name: task for task in loaded}


def test_tasks_that_are_not_needed_are_not_made(offline: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    every = made(offline, None, monkeypatch)
    some = made(offline, Asked(("image",)), monkeypatch)

    assert some.keys() == {name for name in every if name in VERBS or name.startswith(("compile:", "image:"))}
    assert every["push"].task_dep == [name for name in every if name.startswith("push:")]
    assert (some["push"].task_dep, some["image"].task_dep) == ([], every["image"].task_dep)


def test_a_task_of_a_tier_has_what_doits_has_and_no_dict(offline: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute that doit adds in a later version would be missing: its `__init__` is not called."""
    tasks = [task for task in made(offline, None, monkeypatch).values() if isinstance(task, TierTask)]

    assert len(tasks) > len(VERBS)
    assert [vars(task) for task in tasks] == [{}] * len(tasks)
    assert {task.subtask_of for task in tasks} == VERBS
    theirs = vars(Task("name", None)).keys() - {"custom_title"}  # only `title()` reads it
    assert {name for task in tasks for name in theirs if not hasattr(task, name)} == set()
