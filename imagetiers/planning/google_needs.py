"""What a pipeline.yaml names at Google (bucket, repositories, accounts, triggers), with gcloud's commands for each. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imagetiers.config.model import Pipeline
from imagetiers.planning.google_cloud import Grant, Needs, Place, Resource
from imagetiers.planning.infrastructure import Command

__all__ = ["Triggers", "needs"]

_BUCKET = "gs://"
_JSON, _QUIET = "--format=json", "--quiet"
_LABEL = "imagetiers"  # also what the names of triggers begin with
_BUCKETS: Command = ("gcloud", "storage", "buckets")
_REPOSITORIES: Command = ("gcloud", "artifacts", "repositories")
_ACCOUNTS: Command = ("gcloud", "iam", "service-accounts")
_TRIGGERS: Command = ("gcloud", "builds", "triggers")
_SERVICES: Command = ("gcloud", "services")


@dataclass(frozen=True, slots=True)
class Triggers:
    """What starts builds of a repository `OWNER/NAME` on GitHub: pushes to `branch`, and pull requests to it."""

    github: str
    branch: str
    trusted_file: str
    pr_file: str


def needs(pipeline: Pipeline, home: Place, triggers: Triggers | None) -> Needs:
    """Return what a pipeline needs whose `registry` is `home`; without `triggers` builds are started by hand."""
    project = _Project(pipeline, home)
    bucket, repositories, accounts = project.bucket(), project.repositories(), project.accounts()
    notes = []
    if bucket is None:
        notes.append(f"cache is {pipeline.cache}, which is no bucket: no build will find it")
    if triggers is None:
        notes.append("no triggers: --github OWNER/REPOSITORY makes them")
    return Needs(
        services=(*_SERVICES, "list", "--enabled", project.option, _JSON),
        enable=(*_SERVICES, "enable", project.option),
        resources=(
            *(() if bucket is None else (bucket,)),
            *repositories.values(),
            *accounts,
            *(() if triggers is None else project.triggers(triggers, accounts)),
        ),
        grants=tuple(project.grants(bucket, repositories, accounts)),
        triggers=project.listed_triggers,
        delete_trigger=(*_TRIGGERS, "delete", *project.here, _QUIET),
        mark=project.mark,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Project:
    """A pipeline in its project."""

    pipeline: Pipeline
    home: Place

    @property
    def mark(self) -> str:
        """What descriptions say of what is made."""
        return f"made by doit setup of {self.pipeline.name}; its doit teardown removes it"

    @property
    def option(self) -> str:
        return f"--project={self.home.project}"

    @property
    def here(self) -> Command:
        """Where builds run."""
        return (self.option, f"--region={self.home.region}")

    @property
    def listed_triggers(self) -> Command:
        return (*_TRIGGERS, "list", *self.here, _JSON)

    @property
    def builder(self) -> str:
        return self._named(self.pipeline.cloudbuild.builder)

    def _named(self, text: str) -> str:
        """Return a setting of `cloudbuild` as it is in the project's builds."""
        project = self.home.project
        return text.replace("${PROJECT_ID}", project).replace("$PROJECT_ID", project)

    def bucket(self) -> Resource | None:
        if not self.pipeline.cache.startswith(_BUCKET):
            return None
        name = self.pipeline.cache.removeprefix(_BUCKET).partition("/")[0]
        url = f"{_BUCKET}{name}"
        # A bucket has no description. A dot, which a label may not have, is written as no name of a pipeline can be.
        mark = f"{_LABEL}={self.pipeline.name.replace('.', '__')}"
        settings = ("--uniform-bucket-level-access", "--public-access-prevention", "--soft-delete-duration=0")
        return Resource(
            what=f"bucket {url}",
            name=name,
            mark=mark,
            look=(*_BUCKETS, "describe", url, _JSON),
            make=(
                (*_BUCKETS, "create", url, self.option, f"--location={self.home.region}", *settings),
                (*_BUCKETS, "update", url, f"--update-labels={mark}"),  # gcloud makes none with a label
            ),
            unmake=(*_BUCKETS, "delete", url, _QUIET),
            content=("gcloud", "storage", "ls", url, "--json"),
            optional=True,
        )

    def repositories(self) -> dict[Place, Resource]:
        """Return those of images by key, of friendly tags and of the builder image, as far as they are at Google."""
        others = [Place.of(self.pipeline.channels), Place.of(self.builder)]
        moving = others[0] is None or self.home in others  # tags that move lie in the repository of those that do not
        found = {}
        for place in dict.fromkeys((self.home, *(place for place in others if place is not None))):
            fixed = ("--immutable-tags",) if place == self.home and not moving else ()
            kind = ("--repository-format=docker", f"--description={self.mark}", *fixed)
            image = re.split("[:@]", self.builder.rpartition("/")[2], maxsplit=1)[0]
            found[place] = Resource(
                what=f"repository {place.prefix}",
                name=place.repository,
                mark=self.mark,
                look=(*_REPOSITORIES, "list", *place.options, _JSON),
                make=((*_REPOSITORIES, "create", place.repository, *place.options, *kind),),
                unmake=(*_REPOSITORIES, "delete", place.repository, *place.options, _QUIET),
                content=("gcloud", "artifacts", "docker", "images", "list", place.prefix, _JSON),
                ours=image if place == others[1] else None,
            )
        return found

    def accounts(self) -> tuple[Resource, Resource]:
        """Return that of trusted builds, and that of pull requests."""
        settings = self.pipeline.cloudbuild
        return self._account(settings.service_account), self._account(settings.pr_service_account)

    def _account(self, setting: str) -> Resource:
        email = self._named(setting)
        name = email.partition("@")[0]
        return Resource(
            what=f"account {email}",
            name=email,
            mark=self.mark,
            look=(*_ACCOUNTS, "list", self.option, _JSON),
            make=((*_ACCOUNTS, "create", name, self.option, f"--description={self.mark}"),),
            unmake=(*_ACCOUNTS, "delete", email, self.option, _QUIET),
        )

    def grants(
        self, bucket: Resource | None, repositories: dict[Place, Resource], accounts: tuple[Resource, Resource]
    ) -> Iterator[Grant]:
        """Yield what each account may do: the same as in ci/terraform."""
        for account, objects in zip(accounts, ("objectUser", "objectViewer"), strict=True):
            yield _grant(account, "roles/logging.logWriter", None, ("gcloud", "projects"), (self.home.project,))
            if bucket is not None:
                yield _grant(account, f"roles/storage.{objects}", bucket, _BUCKETS, (f"{_BUCKET}{bucket.name}",))
            for place, repository in repositories.items():
                kept_from = Place.of(self.builder) if place != self.home else None  # who wrote it could be any build
                writes = account is accounts[0] and place != kept_from
                role = f"roles/artifactregistry.{'writer' if writes else 'reader'}"
                yield _grant(account, role, repository, _REPOSITORIES, (place.repository, *place.options))

    def triggers(self, triggers: Triggers, accounts: tuple[Resource, Resource]) -> Iterator[Resource]:
        """Yield that of pushes, and that of pull requests."""
        name = "-".join(part for part in (_LABEL, self.pipeline.variant) if part)
        branch = f"^{re.escape(triggers.branch)}$"
        comments = "--comment-control=COMMENTS_ENABLED_FOR_EXTERNAL_CONTRIBUTORS_ONLY"
        push = (f"--branch-pattern={branch}", f"--build-config={triggers.trusted_file}")
        pull_request = (f"--pull-request-pattern={branch}", comments, f"--build-config={triggers.pr_file}")
        yield self._trigger(name, triggers.github, push, accounts[0])
        yield self._trigger(f"{name}-pr", triggers.github, pull_request, accounts[1])

    def _trigger(self, name: str, github: str, event: Command, account: Resource) -> Resource:
        owner, _, repository = github.partition("/")
        options = (f"--name={name}", *self.here, f"--repo-owner={owner}", f"--repo-name={repository}", *event)
        runs_as = f"--service-account=projects/{self.home.project}/serviceAccounts/{account.name}"
        shown = (f"--substitutions=_BUILDER={self.builder}", "--include-logs-with-status", f"--description={self.mark}")
        return Resource(
            what=f"trigger {name}",
            name=name,
            mark=self.mark,
            look=self.listed_triggers,
            make=((*_TRIGGERS, "create", "github", *options, runs_as, *shown),),
            unmake=(*_TRIGGERS, "delete", *self.here, _QUIET, name),
        )


def _grant(account: Resource, role: str, on: Resource | None, kind: Command, name: Command) -> Grant:
    no_condition = () if on is not None else ("--condition=None",)  # which gcloud asks for where others have one
    who = (f"--member=serviceAccount:{account.name}", f"--role={role}", *no_condition)
    return Grant(
        account,
        role,
        on,
        policy=(*kind, "get-iam-policy", *name, _JSON),
        make=(*kind, "add-iam-policy-binding", *name, *who),
        unmake=(*kind, "remove-iam-policy-binding", *name, *who),
    )
