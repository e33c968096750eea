"""A stand-in for gcloud: the commands that `doit setup` uses, on a project in a file (GCLOUD_PROJECT_FILE).

It refuses flags that it does not know, what is there already, what is not there, what still holds something, and services that
are not enabled, with gcloud's exit codes, and writes each call down. GCLOUD_DIES_AFTER=n: it is killed after the n-th change
of the project, before it can say so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

FILE = Path(os.environ["GCLOUD_PROJECT_FILE"])
KINDS = ("buckets", "repositories", "accounts", "triggers", "policies")
SERVICE = {"storage": "storage", "artifacts": "artifactregistry", "iam": "iam", "builds": "cloudbuild"}
FULL_NAME = {
    "repositories": "projects/proj/locations/us-central1/repositories/",
    "accounts": "projects/proj/serviceAccounts/",
}


def write(text: str, *, error: bool = False) -> None:
    (sys.stderr if error else sys.stdout).write(f"{text}\n")


def fail(text: str, code: int = 1) -> NoReturn:
    write(f"ERROR: (gcloud) {text}", error=True)
    raise SystemExit(code)


def say(document: Any) -> None:
    write("Listing items.", error=True)  # gcloud, too, mixes such lines in
    write(json.dumps(document, indent=1))


class Project:
    """What there is, in its file."""

    def __init__(self) -> None:
        empty: dict[str, Any] = {"calls": [], "changes": 0, "services": [], **{kind: {} for kind in KINDS}}
        self.has: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else empty

    def keep(self) -> None:
        FILE.write_text(json.dumps(self.has, indent=1))

    def changed(self) -> None:
        self.has["changes"] += 1
        self.keep()
        if str(self.has["changes"]) == os.environ.get("GCLOUD_DIES_AFTER"):
            os.kill(os.getpid(), signal.SIGKILL)

    def find(self, kind: str, name: str) -> dict[str, Any]:
        if name not in self.has[kind]:
            fail(f"{name} not found: 404.")
        item: dict[str, Any] = self.has[kind][name]
        return item

    def list_all(self, kind: str) -> None:
        say([{**item, "name": FULL_NAME.get(kind, "") + name} for name, item in self.has[kind].items()])

    def make(self, kind: str, name: str, /, **item: str) -> None:
        if name in self.has[kind]:
            fail(f"ALREADY_EXISTS: {name}")
        self.has[kind][name] = item
        self.changed()

    def drop(self, kind: str, name: str) -> None:
        if self.find(kind, name).get("holds"):
            fail(f"{name} is not empty: 409.")
        del self.has[kind][name]
        self.has["policies"].pop(name, None)
        self.changed()

    def policy(self, on: str) -> dict[str, list[str]]:
        roles: dict[str, list[str]] = self.has["policies"].setdefault(on, {})
        return roles

    def show_policy(self, on: str) -> None:
        say({"bindings": [{"role": role, "members": who} for role, who in self.policy(on).items() if who], "etag": "x"})

    def bind(self, on: str, role: str, member: str) -> None:
        self.find("accounts", member.partition(":")[2])
        roles = self.policy(on)
        roles[role] = sorted({*roles.get(role, ()), member})
        self.changed()

    def unbind(self, on: str, role: str, member: str) -> None:
        if member not in self.policy(on).get(role, ()):
            fail("Policy binding with the specified principal, role, and condition not found!")
        self.policy(on)[role].remove(member)
        self.changed()

    def enable(self, services: list[str]) -> None:
        self.has["services"] = sorted({*self.has["services"], *services})
        self.changed()

    def label(self, bucket: str, label: str) -> None:
        self.find("buckets", bucket).setdefault("labels", {}).update([label.split("=", 1)])
        self.changed()

    def describe(self, bucket: str) -> None:
        say(
            {"name": bucket, "storage_url": f"gs://{bucket}/", "labels": self.find("buckets", bucket).get("labels", {})}
        )

    def objects(self, bucket: str) -> None:
        if held := self.find("buckets", bucket).get("holds"):  # of an empty one nothing is printed
            say([{"url": f"gs://{bucket}/{name}/", "type": "prefix"} for name in held])

    def images(self, repository: str) -> None:
        held = self.find("repositories", repository.rpartition("/")[2]).get("holds", [])
        say([{"package": f"{repository}/{name}", "version": "sha256:x"} for name in held])


Flags = argparse.Namespace
Run = Callable[[Project, Any, Flags], None]
WHERE, WHO = ["--location"], ["--member", "--role"]
TRIGGER = ["--name", "--region", "--repo-owner", "--repo-name", "--branch-pattern", "--pull-request-pattern"]
TRIGGER += ["--comment-control", "--build-config", "--service-account", "--substitutions", "--description"]

# What is run by which words, how many names follow them, and which flags are known (those with a ! have no value).
COMMANDS: dict[str, tuple[Run, str, list[str]]] = {
    "services list": (
        lambda on, _, __: say([{"name": f"projects/1/services/{each}"} for each in on.has["services"]]),
        "",
        ["--enabled!"],
    ),
    "services enable": (lambda on, names, _: on.enable(names), "+", []),
    "storage ls": (lambda on, name, _: on.objects(name), "1", ["--json!"]),
    "storage buckets describe": (lambda on, name, _: on.describe(name), "1", []),
    "storage buckets create": (
        lambda on, name, flags: on.make("buckets", name, location=flags.location),
        "1",
        [*WHERE, "--uniform-bucket-level-access!", "--public-access-prevention!", "--soft-delete-duration"],
    ),
    "storage buckets update": (lambda on, name, flags: on.label(name, flags.update_labels), "1", ["--update-labels"]),
    "storage buckets delete": (lambda on, name, _: on.drop("buckets", name), "1", []),
    "artifacts repositories list": (lambda on, _, __: on.list_all("repositories"), "", WHERE),
    "artifacts repositories create": (
        lambda on, name, flags: on.make("repositories", name, description=flags.description),
        "1",
        [*WHERE, "--repository-format", "--description", "--immutable-tags!"],
    ),
    "artifacts repositories delete": (lambda on, name, _: on.drop("repositories", name), "1", WHERE),
    "artifacts docker images list": (lambda on, name, _: on.images(name), "1", []),
    "iam service-accounts list": (lambda on, _, __: on.list_all("accounts"), "", []),
    "iam service-accounts create": (
        lambda on, name, flags: on.make(
            "accounts", f"{name}@{flags.project}.iam.gserviceaccount.com", description=flags.description
        ),
        "1",
        ["--description"],
    ),
    "iam service-accounts delete": (lambda on, name, _: on.drop("accounts", name), "1", []),
    "builds triggers list": (lambda on, _, __: on.list_all("triggers"), "", ["--region"]),
    "builds triggers create github": (
        lambda on, _, flags: on.make(
            "triggers", flags.name, **{key: value for key, value in vars(flags).items() if isinstance(value, str)}
        ),
        "",
        [*TRIGGER, "--include-logs-with-status!"],
    ),
    "builds triggers delete": (lambda on, name, _: on.drop("triggers", name), "1", ["--region"]),
}
for noun, known in {"projects": [], "storage buckets": [], "artifacts repositories": WHERE}.items():
    who = [*known, *WHO, *(["--condition"] if noun == "projects" else [])]
    COMMANDS[f"{noun} get-iam-policy"] = (lambda on, name, _: on.show_policy(name), "1", known)
    COMMANDS[f"{noun} add-iam-policy-binding"] = (
        lambda on, name, flags: on.bind(name, flags.role, flags.member),
        "1",
        who,
    )
    COMMANDS[f"{noun} remove-iam-policy-binding"] = (
        lambda on, name, flags: on.unbind(name, flags.role, flags.member),
        "1",
        who,
    )


def main() -> None:
    argv = sys.argv[1:]
    words = max((each for each in COMMANDS if argv[: len(each.split())] == each.split()), key=len, default=None)
    if words is None:
        fail(f"Invalid choice: {argv}", 2)
    run, names, flags = COMMANDS[words]
    parser = argparse.ArgumentParser(allow_abbrev=False)  # exits with 2, as gcloud does
    if names:
        parser.add_argument("called", nargs="+" if names == "+" else None)
    for flag in [*flags, "--project", "--format", "--quiet!"]:
        parser.add_argument(flag.rstrip("!"), action="store_true" if flag.endswith("!") else "store")
    given = parser.parse_args(argv[len(words.split()) :])
    project = Project()
    project.has["calls"].append(argv)
    project.keep()
    service = SERVICE.get(words.split()[0])
    if service and f"{service}.googleapis.com" not in project.has["services"]:
        fail(f"API [{service}.googleapis.com] not enabled on project [{given.project}].")
    called = getattr(given, "called", "")
    run(project, called.removeprefix("gs://") if isinstance(called, str) else called, given)


main()
