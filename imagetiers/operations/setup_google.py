"""setup, teardown by gcloud: what is missing of that which pipeline.yaml names is made, and what has our mark is taken down."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from imagetiers.errors import Problem, SetupError
from imagetiers.operations.dry_run import DryRun
from imagetiers.planning.google_cloud import Found, FoundItem, Needs, Place, read_items
from imagetiers.planning.google_needs import Triggers, needs
from imagetiers.planning.infrastructure import UP, Command, Direction

__all__ = ["change_with_gcloud"]

_ABSENT = 1  # gcloud's exit code where there is no such thing, among others


def change_with_gcloud(
    dry_run: DryRun, direction: Direction, triggers: Triggers | None, last: tuple[Command, ...], notes: Iterable[str]
) -> None:
    """Show gcloud's commands, and those that come `last`; run them when somebody says yes. Raises SetupError."""
    pipeline = dry_run.session.plan.pipeline
    home = Place.of(pipeline.registry)
    if home is None:
        what = f"registry is {pipeline.registry or 'null'}, and says in no project of Google's what to set up"
        hint = "write registry: REGION-docker.pkg.dev/PROJECT/REPOSITORY, or give Terraform's files by --folder"
        raise SetupError(Problem("pipeline.yaml", what, hint))
    wanted = needs(pipeline, home, triggers)
    found = _look(dry_run, direction, wanted)
    changes = wanted.to_set_up(found) if direction is UP else wanted.to_take_down(found)
    commands = (*changes.commands, *last)
    for note in (*changes.notes, *notes):
        dry_run.say(note)
    if not commands:
        dry_run.say("nothing to do")
        return
    for command in commands:
        dry_run.show(command)
    dry_run.say("this was a dry run; these are the commands that do it")
    if not dry_run.is_agreed():
        return
    for command in commands:
        dry_run.run(command)
    dry_run.say(f"all of it is {direction.done}")


def _look(dry_run: DryRun, direction: Direction, wanted: Needs) -> Found:
    """Ask for all that is wanted. What a service knows that is not enabled is not there."""
    found: dict[Command, tuple[FoundItem, ...]] = {wanted.services: _ask(dry_run, wanted.services)}
    enabled = {item.name for item in found[wanted.services]}
    for look, optional in wanted.looks.items():
        if wanted.service_of(look) in enabled:
            found[look] = _ask(dry_run, look, (0, _ABSENT) if optional else (0,))
    for policy in wanted.policies(found):
        found[policy] = _ask(dry_run, policy)
    for content in () if direction is UP else wanted.contents(found):
        found[content] = _ask(dry_run, content)
    return found


def _ask(dry_run: DryRun, command: Command, fine: Collection[int] = (0,)) -> tuple[FoundItem, ...]:
    code, lines = dry_run.ask(command, fine)
    if code:
        return ()
    try:
        return read_items(lines)
    except (ValueError, RecursionError):
        what = f"{' '.join(command[:4])} has printed what is no JSON"
        raise SetupError(Problem(dry_run.where, what, "run it by hand, and look")) from None
