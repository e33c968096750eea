"""The exit codes that docs/commands.md lists are those that doit ends with."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagetiers.config.model import Trust
from imagetiers.services import Services
from imagetiers.tasks.tasks import Tasks
from imagetiers.tasks.tier_task import TierTask
from tests.conftest import HERE
from tests.engine.conftest import REPO, Checkout, send

ROWS = re.findall(
    r"^\| (\d+) \| [^|]+ \|([^|]*)\|$", (REPO / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE
)
EXAMPLES = [(int(code), example) for code, cell in ROWS for example in re.findall(r"`doit ([^`]+)`", cell)]


def test_the_table_is_there() -> None:
    assert [int(code) for code, _ in ROWS] == [0, 1, 2, 3, 130]
    assert len(EXAMPLES) > 15


@pytest.mark.parametrize(("code", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_exit_code(code: int, example: str, offline: Checkout) -> None:
    run = offline.doit(*example.split())

    assert run.code == code, run.text
    assert "Traceback" not in run.text
    if code == 3:
        assert run.out == "", "nothing ran"


def test_a_wrong_pipeline_and_a_missing_secret(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "arr-base: {parent", "arr-base: {secrets: {token: {env: NO_SUCH_TOKEN}}, parent")
    missing = offline.doit("image:arr-base")
    offline.edit("pipeline.yaml", "parent: pytorch-clean", "parent: pytorch-clena")
    wrong = offline.doit("list")

    assert (missing.code, missing.out) == (3, "")
    assert (wrong.code, wrong.out) == (3, "")


# What reads the value of each option, by the option's name, with a value that it refuses; switches have none.
WRONG = {
    "timeout": ["x", "0s", "3h 30m", "-1h", ""],
    "json": [""],
    "gpu": ["x", ""],
    "junit": [""],
    "watch": ["x", "0s", ""],
    "mode": ["x", "", "trusted|pr"],
    "namespace": [""],
    "days": ["x", "-1", "1.5", "", "9" * 400, "\u0663", "1_0"],
    "keep": ["x", "-1"],
    "max_count": ["x", "-1"],
    "max_size": ["x", "20 G", "-1G", ""],
    "grace": ["x", "0", "1", "-1"],
    "to": ["x", "0", "-1"],
    "out": [""],
    "key": ["A b", "", "-"],
    "run": ["", "  ", "sh -c 'open"],
    "sort": ["x", ""],
    "limit": ["x", "0", "-1"],
}


OPTIONS = [
    ("compile:pytorch-clean", ["timeout"]),
    ("plan", ["json"]),
    ("status", ["json", "watch"]),
    ("cloudbuild", ["mode"]),
    ("ccache:pull", ["namespace"]),
    ("ccache:prune", ["namespace", "days", "max_size"]),
    ("ccache:rollback", ["to"]),
    ("gc", ["days", "keep"]),
    ("cache:gc", ["days", "keep", "max_count", "max_size", "grace"]),
    ("watch", ["run"]),
    ("trust:init", ["out", "key"]),
    ("trust:rotate", ["out", "key"]),
]


def params() -> list[tuple[str, dict[str, Any]]]:
    """Return the options of all tasks, as doit gets them."""
    services = cast("Services", SimpleNamespace(trust=Trust()))  # no task is run
    tasks = Tasks(HERE / "repos" / "tiny", lambda _, default: default, lambda *_: services)
    made = [
        tasks.check(),
        tasks.plan(),
        tasks.explain(),
        tasks.lock(),
        tasks.status(),
        tasks.cloudbuild(),
        tasks.watch(),
        tasks.bake(),
    ]
    made += [*tasks.ccache(), *tasks.trust(), *tasks.gc()]
    found = [
        (str(task.get("basename") or task.get("name")), param) for task in made for param in task.get("params", [])
    ]
    for of_tiers in (tasks.compile(), tasks.image(), tasks.verify(), tasks.pull(), tasks.push()):
        found += [(task.name, param) for task in of_tiers if isinstance(task, TierTask) for param in task.params]
    return found


def test_each_option_refuses_what_it_cannot_mean() -> None:
    """With what is wrong, and the cure."""
    valued = {param["name"] for _, param in params() if param["type"] is not bool}
    assert valued == set(WRONG)
    for task, param in params():
        for value in WRONG[param["name"]] if param["type"] is not bool else ():
            with pytest.raises(ValueError, match=r"\n  hint: ."):
                assert param["type"](value) is task  # whatever it is, it should not be


@pytest.mark.parametrize(("task", "options"), OPTIONS, ids=[task for task, _ in OPTIONS])
def test_a_wrong_value_of_an_option(task: str, options: list[str], offline: Checkout) -> None:
    for name in options:
        option = f"--{name.replace('_', '-')}"
        run = offline.doit(task, f"{option}={WRONG[name][0]}", "status")

        assert (run.code, run.out) == (3, ""), (option, run.text)
        first, problem, hint = run.err.splitlines()
        assert first == "ERROR: one problem in the command line; nothing was run"
        assert problem.startswith(f"{option}: "), run.err
        assert hint.startswith("  hint: ")


def test_a_switch_with_a_value_and_an_option_without(offline: Checkout) -> None:
    for args in (("plan", "--why=yes"), ("cache:gc", "--days"), ("image:arr-base", "--rebuild=no")):
        run = offline.doit(*args)
        assert (run.code, run.out, run.err.count("\n")) == (3, "", 3), run.text


# Each command of doit itself, with what it cannot mean.
MISTAKES = [
    "--timeout=x",
    "compile --timeout=x",
    "-n x",
    "-n -1",
    "-r no-reporter",
    "-n 2 list",
    "image:no-tier",
    "image:no* check",
    "clean image:no-tier",
    "clean no*",
    "clean --no-option",
    "forget no-task",
    "forget --no-option",
    "ignore",
    "ignore no-task",
    "info",
    "info image:no-tier",
    "info image:arr-base --rebuild",
    "list no-task",
    "list --no-option",
    "help no-task",
    "help image arr-base",
    "dumpdb",
    "explain arr-base no-tier",
    "explain --json no-tier",
    "explain no-tier --json",
    "explain *",
    "trust:init",
    "trust:rotate",
    "variant= list",
    "trust=maybe list",
    "branch= list",
    "=x list",
]


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_on_the_command_line(line: str, offline: Checkout) -> None:
    run = offline.doit(*line.split())

    assert (run.code, run.out) == (3, ""), run.text
    assert run.err.startswith("ERROR: ")
    assert run.err.count("\n") <= 3
    assert "Traceback" not in run.err
    assert "CmdOption" not in run.err


def test_what_could_not_be_done_is_told_in_words(offline: Checkout) -> None:
    run = offline.doit("--continue", "image", "check")

    assert run.code == 2
    assert "image: not done, because this failed: image:pytorch-clean image:arr-base image:arr-training\n" in run.err
    assert "taskid" not in run.text
    assert "3 tiers are right" in run.out


def test_stars_that_match_and_stars_of_another_thing(offline: Checkout) -> None:
    listed = offline.doit("ch*", "explain", "arr-base")
    named = offline.doit("ccache:stats", "--namespace", "a*")

    assert listed.code == 0, listed.text
    assert (named.code, "holds no namespace a*" in named.err) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_a_daemon_hangs(number: signal.Signals, offline: Checkout, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "hung.sock"))
        daemon.listen()
        process = offline.start("image", DOCKER_HOST=f"unix://{tmp_path}/hung.sock")
        connection, _ = daemon.accept()
        with connection:
            run = send(process, number)

    assert run.code == -signal.SIGINT, "of which a shell makes 130"
    assert run.err.strip() == "interrupted: what is done is kept; run doit again to go on"
