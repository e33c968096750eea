"""What there is at Google, and which of gcloud's commands make what is missing, or take down what is ours. Pure.

What is made carries a mark with the pipeline's name, and nothing without that mark is ever taken down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from imagetiers.documents import no_constant
from imagetiers.planning.infrastructure import Command

__all__ = ["Changes", "Found", "FoundItem", "Grant", "Needs", "Place", "Resource", "read_items"]

_HOST = "-docker.pkg.dev"
_SERVICES = ("artifactregistry", "cloudbuild", "iam", "iamcredentials", "logging", "secretmanager", "storage")
_API = ".googleapis.com"
_ANSWERS = {"storage": "storage", "artifacts": "artifactregistry", "iam": "iam", "builds": "cloudbuild"}


@dataclass(frozen=True, slots=True)
class Place:
    """A repository of Artifact Registry."""

    region: str
    project: str
    repository: str

    @classmethod
    def of(cls, reference: str | None) -> Place | None:
        """Return that of `REGION-docker.pkg.dev/PROJECT/REPOSITORY[/IMAGE]`; None where it is no such reference."""
        host, _, path = (reference or "").partition("/")
        project, _, rest = path.partition("/")
        repository = re.split("[/:@]", rest, maxsplit=1)[0]
        if not host.endswith(_HOST) or not project or not repository:
            return None
        return cls(host.removesuffix(_HOST), project, repository)

    @property
    def prefix(self) -> str:
        """What the references of its images begin with."""
        return f"{self.region}{_HOST}/{self.project}/{self.repository}"

    @property
    def options(self) -> Command:
        """What says to a command about repositories which project and region are meant."""
        return (f"--project={self.project}", f"--location={self.region}")


@dataclass(frozen=True, slots=True)
class FoundItem:
    """Something that is there: its name, the texts among which a mark may be, and which members have which roles on it."""

    name: str = ""
    marks: frozenset[str] = frozenset()
    roles: frozenset[tuple[str, str]] = frozenset()


Found = Mapping[Command, tuple[FoundItem, ...]]
"""What each look-up has found. One that is not in it was not made, or found nothing."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that a pipeline needs: what finds it, makes it with its `mark`, and takes it down.

    `content` lists what it holds, None: nothing that could be lost; of that, `ours` is no reason to keep it. Where `optional`,
    a look-up that fails has found nothing: gcloud has no list in which it would not stand.
    """

    what: str
    name: str
    mark: str
    look: Command
    make: tuple[Command, ...]
    unmake: Command
    content: Command | None = None
    ours: str | None = None
    optional: bool = False

    def find(self, found: Found) -> FoundItem | None:
        """Return what was found of it."""
        return next((item for item in found.get(self.look, ()) if item.name == self.name), None)

    def is_ours(self, found: Found) -> bool:
        """Say whether it is there with our mark."""
        item = self.find(found)
        return item is not None and self.mark in item.marks

    def rest(self, found: Found) -> tuple[FoundItem, ...]:
        """Return what it holds that is not known to be ours."""
        return tuple(item for item in found.get(self.content or (), ()) if item.name != self.ours)


@dataclass(frozen=True, slots=True)
class Grant:
    """A role of an account's, on a resource or (None) on the whole project; `policy` says who has which."""

    account: Resource
    role: str
    on: Resource | None
    policy: Command
    make: Command
    unmake: Command

    def is_there(self, found: Found) -> bool:
        """Say whether the account has it."""
        return any(
            (self.role, f"serviceAccount:{self.account.name}") in item.roles for item in found.get(self.policy, ())
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """Commands, in the order in which they are run, and what people should know beside them."""

    commands: tuple[Command, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """All that a pipeline needs of a project: `resources` in the order in which they are made, and `grants` on them.

    `services` lists what is enabled, `enable` enables it. `triggers` lists what starts builds, of every variant: each that has
    the `mark` is taken down by `delete_trigger` and its name. `notes` are what people should know.
    """

    services: Command
    enable: Command
    resources: tuple[Resource, ...]
    grants: tuple[Grant, ...]
    triggers: Command
    delete_trigger: Command
    mark: str
    notes: tuple[str, ...]

    @property
    def looks(self) -> Mapping[Command, bool]:
        """Return the commands that look for everything, and whether each may fail."""
        looks = {resource.look: resource.optional for resource in self.resources}
        return looks | {self.triggers: False}

    @staticmethod
    def service_of(look: Command) -> str:
        """Return the service that answers a look-up."""
        return f"{_ANSWERS[look[1]]}{_API}"

    def policies(self, found: Found) -> tuple[Command, ...]:
        """Return the commands that say who has which role on what there is."""
        there = (grant.policy for grant in self.grants if grant.on is None or grant.on.find(found) is not None)
        return tuple(dict.fromkeys(there))

    def contents(self, found: Found) -> tuple[Command, ...]:
        """Return the commands that list what our resources hold."""
        return tuple(each.content for each in self.resources if each.content is not None and each.is_ours(found))

    def to_set_up(self, found: Found) -> Changes:
        """Return what makes that which is missing."""
        enabled = {item.name for item in found.get(self.services, ())}
        missing = [f"{name}{_API}" for name in _SERVICES if f"{name}{_API}" not in enabled]
        commands = [(*self.enable, *missing)] if missing else []
        notes = list(self.notes)
        for resource in self.resources:
            if resource.find(found) is None:
                commands.extend(resource.make)
            elif not resource.is_ours(found):
                notes.append(
                    f"{resource.what} was not made by doit setup: it is used as it is, and teardown lets it be"
                )
        for grant in self.grants:
            if self._foreign(grant.account, found):
                continue  # nobody could tell later who has given the role
            if not grant.is_there(found):
                commands.append(grant.make)
        return Changes(tuple(commands), tuple(notes))

    def to_take_down(self, found: Found) -> Changes:
        """Return what takes down that which has our mark and holds nothing of anybody's."""
        triggers = [item.name for item in found.get(self.triggers, ()) if self.mark in item.marks]
        commands = [(*self.delete_trigger, name) for name in triggers]
        commands.extend(grant.unmake for grant in self.grants if grant.account.is_ours(found) and grant.is_there(found))
        notes: list[str] = []
        for resource in reversed(self.resources):
            if resource.look == self.triggers or resource.find(found) is None:
                continue
            if not resource.is_ours(found):
                notes.append(f"{resource.what} stays: it was not made by doit setup")
            elif rest := resource.rest(found):
                notes.append(f"{resource.what} stays: it holds {rest[0].name}" + (" and more" if rest[1:] else ""))
            else:
                commands.append(resource.unmake)
        return Changes(tuple(commands), tuple(notes))

    @staticmethod
    def _foreign(resource: Resource, found: Found) -> bool:
        return resource.find(found) is not None and not resource.is_ours(found)


def read_items(lines: Iterable[str]) -> tuple[FoundItem, ...]:
    """Return what gcloud has printed as JSON, among other lines: nothing, where it lists nothing. Raises ValueError."""
    text = "\n".join(dropwhile(lambda line: not line.startswith(("[", "{")), lines))
    if not text:
        return ()
    document, _ = json.JSONDecoder(parse_constant=no_constant).raw_decode(text)
    items = document if isinstance(document, list) else [document]
    return tuple(_item(item) for item in items if isinstance(item, dict))


def _item(item: Mapping[str, Any]) -> FoundItem:
    name = item.get("name") or item.get("package") or item.get("url")
    labels, description, bindings = item.get("labels"), item.get("description"), item.get("bindings")
    marks = {f"{key}={value}" for key, value in labels.items()} if isinstance(labels, dict) else set()
    return FoundItem(
        name=name.rstrip("/").rpartition("/")[2] if isinstance(name, str) else "",
        marks=frozenset(marks | ({description} if isinstance(description, str) else set())),
        roles=frozenset(_roles(bindings) if isinstance(bindings, list) else ()),
    )


def _roles(bindings: list[Any]) -> Iterator[tuple[str, str]]:
    for binding in bindings:
        if isinstance(binding, dict) and "condition" not in binding and isinstance(binding.get("members"), list):
            yield from ((str(binding.get("role")), str(member)) for member in binding["members"])
