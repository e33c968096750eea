"""setup, teardown: what a pipeline needs outside (bucket, registries, accounts, triggers), through its own Terraform.

First a dry run, then a question, then exactly what was shown. What was made is known to Terraform's state, and nothing else
is ever taken down.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path

from imagetiers.config.model import Pipeline
from imagetiers.documents import parse_object
from imagetiers.errors import Problem, SetupError
from imagetiers.planning.infrastructure import CHANGES, UP, Direction, Terraform
from imagetiers.session import Session

__all__ = ["change_infrastructure"]

_FILES = "it holds what makes the bucket, the registries, the accounts and the triggers"


def change_infrastructure(session: Session, direction: Direction, folder: Path, *, agreed: bool) -> None:
    """Show what there is to do; do it when somebody says yes, or has `agreed` before.

    Where nobody can be asked, it stays at the dry run. Raises SetupError, also in an untrusted build.
    """
    where = f"doit {direction.verb}"
    if not session.trust.trusted:
        raise SetupError(
            Problem(where, "this build is untrusted, and changes nothing outside", f"{where} without trust=untrusted")
        )
    if not any(folder.glob("*.tf")):
        raise SetupError(Problem(where, f"{folder} holds no *.tf file", f"--folder FOLDER; {_FILES}"))
    plan = session.layout.state / "terraform.plan"
    terraform = Terraform(folder, plan.resolve())
    with session.services.locks.hold("setup", where):
        plan.parent.mkdir(parents=True, exist_ok=True)
        try:
            _change(session, terraform, direction, where, agreed=agreed)
        finally:
            plan.unlink(missing_ok=True)  # it has every value of the variables, secret ones, too


def _change(session: Session, terraform: Terraform, direction: Direction, where: str, *, agreed: bool) -> None:
    say = session.services.console.line
    _run(session, where, terraform.init())
    if _run(session, where, terraform.plan_changes(direction), fine=(0, CHANGES)) != CHANGES:
        say(f"{where}: nothing to do")
    else:
        apply = terraform.apply()
        say(f"{where}: this was a dry run; to do exactly that: {shlex.join(apply)}")
        if not agreed:
            answer = session.services.confirm("Shall it be done?")
            if answer is None:
                say(f"{where}: nothing was changed, for nobody can be asked; {where} --yes does it")
                return
            if not answer:
                say(f"{where}: nothing was changed")
                return
        _run(session, where, apply)
        say(f"{where}: all of it is {direction.done}")
    if direction is UP:
        for line in _differences(session.plan.pipeline, _outputs(session, where, terraform)):
            say(line)


def _run(session: Session, where: str, command: tuple[str, ...], fine: tuple[int, ...] = (0,)) -> int:
    """Run a command, shown before, its lines as they come. Raises SetupError."""
    session.services.console.line(f"$ {shlex.join(command)}")
    return _ended(where, command, session.services.run_program(command, session.services.console.line), fine)


def _ended(where: str, command: tuple[str, ...], code: int | None, fine: tuple[int, ...]) -> int:
    if code is None:
        raise SetupError(
            Problem(where, f"{command[0]} is not on the PATH", "https://developer.hashicorp.com/terraform/install")
        )
    if code not in fine:
        raise SetupError(Problem(where, f"ended with exit code {code}: {shlex.join(command)}", "what it says is above"))
    return code


def _outputs(session: Session, where: str, terraform: Terraform) -> dict[str, str]:
    lines: list[str] = []
    command = terraform.outputs()
    _ended(where, command, session.services.run_program(command, lines.append), (0,))
    text = "\n".join(dropwhile(lambda line: line != "{", lines))  # warnings come before it
    document = parse_object(text.encode()) or {}
    found = {name: value.get("value") for name, value in document.items() if isinstance(value, dict)}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _differences(pipeline: Pipeline, outputs: dict[str, str]) -> Iterator[str]:
    """Yield what has to be written into pipeline.yaml so that builds use what was set up."""
    settings = {
        "registry": pipeline.registry,
        "channels": pipeline.channels,
        "cache": pipeline.cache,
        "builder": pipeline.cloudbuild.builder,
    }
    for name, value in settings.items():
        made = outputs.get(name)
        if made is not None and made != value:
            key = "cloudbuild.builder" if name == "builder" else name
            yield f"pipeline.yaml: {key} is {json.dumps(value)}; what was set up is {json.dumps(made)}"
