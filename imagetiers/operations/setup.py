"""setup, teardown: what a pipeline needs outside (bucket, registries, accounts, triggers, the builder image).

The project's own Terraform does it, or gcloud where there are no files of Terraform's. First a dry run, then a question,
then exactly what was shown. Nothing is taken down that was not made so.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

from imagetiers.config.model import Pipeline
from imagetiers.documents import parse_object
from imagetiers.errors import Problem, SetupError
from imagetiers.operations.dry_run import DryRun
from imagetiers.operations.setup_google import change_with_gcloud
from imagetiers.planning.google_needs import Triggers
from imagetiers.planning.infrastructure import (
    BUILDER_FILE,
    CHANGES,
    TERRAFORM_FOLDER,
    UP,
    Command,
    Direction,
    Terraform,
    builder_image,
)
from imagetiers.planning.observed import Present, Unknown
from imagetiers.report.cloudbuild import Mode, build_file
from imagetiers.session import Session

__all__ = ["SetupWish", "change_infrastructure"]


@dataclass(frozen=True, slots=True)
class SetupWish:
    """What the command line says: Terraform's `folder`, which program does it, and which pushes start builds.

    `folder` is None where none was named. `by` is terraform, gcloud, or auto: terraform where a folder was named, or the usual
    one has files of it. `github` is OWNER/REPOSITORY, empty: no triggers. `agreed`: nobody is asked.
    """

    folder: Path | None = None
    by: str = "auto"
    github: str = ""
    branch: str = "main"
    agreed: bool = False


def change_infrastructure(session: Session, direction: Direction, asked: SetupWish) -> None:
    """Show what there is to do; do it when somebody says yes, or has said so before.

    Where nobody can be asked, it stays at the dry run. Raises SetupError, also in an untrusted build.
    """
    where = f"doit {direction.verb}"
    dry_run = DryRun(session, where, asked.agreed)
    if not session.trust.trusted:
        raise SetupError(
            Problem(where, "this build is untrusted, and changes nothing outside", f"{where} without trust=untrusted")
        )
    folder = asked.folder or Path(TERRAFORM_FOLDER)
    has_files = any(folder.glob("*.tf"))
    named = asked.by == "terraform" or (asked.folder is not None and asked.by == "auto")
    if named and not has_files:
        raise SetupError(Problem(where, f"{folder} holds no *.tf file", "--folder FOLDER, or --by gcloud"))
    with session.services.locks.hold("setup", where):
        if has_files and asked.by != "gcloud":
            _change_with_terraform(dry_run, direction, folder)
            return
        last, notes = _builder(session) if direction is UP else ((), ())
        change_with_gcloud(dry_run, direction, _triggers(session, asked), last, notes)


def _triggers(session: Session, asked: SetupWish) -> Triggers | None:
    if not asked.github:
        return None
    trusted, pr = (build_file(session.plan.pipeline.variant, mode) for mode in (Mode.TRUSTED, Mode.PR))
    return Triggers(asked.github, asked.branch, trusted, pr)


def _builder(session: Session) -> tuple[tuple[Command, ...], tuple[str, ...]]:
    """Return what makes and publishes the image that the steps of Cloud Build run in, and what to know of it."""
    builder = session.plan.pipeline.cloudbuild.builder
    if session.plan.pipeline.registry is None or "$" in builder:
        return (), ()
    commands = builder_image(builder)
    by_hand = " && ".join(shlex.join(command) for command in commands)
    if not (session.layout.root / BUILDER_FILE).exists():
        return (), (f"the builder image is made in a checkout of imagetiers: {by_hand}",)
    found = session.services.registry.look_up([builder])[builder]
    if isinstance(found, Present):
        return (), (f"{builder} is there; for one of today's imagetiers: {by_hand}",)
    if isinstance(found, Unknown):
        return commands, (f"whether {builder} is there, the registry does not say: {found.reason}",)
    return commands, ()


def _change_with_terraform(dry_run: DryRun, direction: Direction, folder: Path) -> None:
    session = dry_run.session
    plan = session.layout.state / "terraform.plan"
    terraform = Terraform(folder, plan.resolve())
    plan.parent.mkdir(parents=True, exist_ok=True)
    try:
        dry_run.run(terraform.init())
        changes = dry_run.run(terraform.plan_changes(direction), fine=(0, CHANGES)) == CHANGES
        last, notes = _builder(session) if direction is UP else ((), ())
        commands = (*((terraform.apply(),) if changes else ()), *last)
        for note in notes:
            dry_run.say(note)
        if not commands:
            dry_run.say("nothing to do")
        else:
            shown = " && ".join(shlex.join(command) for command in commands)
            dry_run.say(f"this was a dry run; to do exactly that: {shown}")
            if not dry_run.is_agreed():
                return
            for command in commands:
                dry_run.run(command)
            dry_run.say(f"all of it is {direction.done}")
    finally:
        plan.unlink(missing_ok=True)  # it has every value of the variables, secret ones, too
    if direction is UP:
        for line in _differences(session.plan.pipeline, _outputs(dry_run, terraform)):
            session.services.console.line(line)


def _outputs(dry_run: DryRun, terraform: Terraform) -> dict[str, str]:
    _, lines = dry_run.ask(terraform.outputs())
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
