"""doit setup and teardown by gcloud: by a stand-in that keeps a project in a file. The real one reads the same commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagetiers.adapters.process import run
from imagetiers.errors import SetupError
from imagetiers.operations.setup import SetupWish, change_infrastructure
from imagetiers.planning.infrastructure import DOWN, UP
from tests.conftest import HERE
from tests.engine.conftest import Checkout
from tests.registry.harness import Builder, builder

MARK = "made by doit setup of tiny; its doit teardown removes it"
BUILD, PR = (f"imagetiers-{name}@proj.iam.gserviceaccount.com" for name in ("build", "pr"))
AT_GOOGLE = """\
registry: us-central1-docker.pkg.dev/proj/images
channels: us-central1-docker.pkg.dev/proj/channels
cache: gs://bucket/prefix
cloudbuild: {builder: us-central1-docker.pkg.dev/proj/tools/imagetiers-builder}
"""
GITHUB = "--github=owner/name"


class Google:
    """The project in its file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def has(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text())) if self.file.exists() else {}

    def change(self, **kinds: Any) -> None:
        self.file.write_text(json.dumps(self.has | kinds))

    @property
    def calls(self) -> list[list[str]]:
        return list(self.has["calls"])

    @property
    def things(self) -> dict[str, list[str]]:
        return {kind: sorted(self.has[kind]) for kind in ("buckets", "repositories", "accounts", "triggers")}

    @property
    def roles(self) -> dict[str, dict[str, list[str]]]:
        """Return who has which role on what, those that nobody has left out."""
        policies = self.has["policies"].items()
        held = {on: {role: who for role, who in roles.items() if who} for on, roles in policies}
        return {on: roles for on, roles in held.items() if roles}


@pytest.fixture
def google(tmp_path: Path) -> Google:
    return Google(tmp_path / "project.json")


@pytest.fixture
def project(offline: Checkout, google: Google, tmp_path: Path) -> Checkout:
    """The tiny pipeline, which lies at Google, and no file of Terraform's."""
    path = offline.root / "pipeline.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("registry:", "cache:"))]
    path.write_text("\n".join([*lines, AT_GOOGLE]))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gcloud").write_text(f"#!{sys.executable}\n{(HERE / 'tasks' / 'gcloud.py').read_text()}")
    (programs / "gcloud").chmod(0o755)
    env = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "GCLOUD_PROJECT_FILE": str(google.file)}
    return replace(offline, env={**offline.env, **env})


class Here:
    """The project's checkout, in which the verbs run in the tests' own process, and are agreed to."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _machine(self) -> Builder:
        made = builder(self.root, "", self.root / ".imagetiers" / "cache")
        made.services = replace(made.services, run_program=lambda command, on_line: run(command, on_line=on_line))
        return made

    def setup(self, github: str = "owner/name") -> str:
        made = self._machine()
        change_infrastructure(made.session, UP, SetupWish(github=github, agreed=True))
        return made.said

    def teardown(self, *, agreed: bool = True) -> str:
        made = self._machine()
        change_infrastructure(made.session, DOWN, SetupWish(agreed=agreed))
        return made.said


@pytest.fixture
def here(project: Checkout, monkeypatch: pytest.MonkeyPatch) -> Here:
    for name in ("PATH", "GCLOUD_PROJECT_FILE"):
        monkeypatch.setenv(name, project.env[name])
    monkeypatch.chdir(project.root)
    return Here(project.root)


def shown(text: str) -> list[str]:
    """Return the commands that a dry run has shown."""
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def test_a_dry_run_shows_the_commands_and_changes_nothing(project: Checkout, google: Google) -> None:
    run = project.doit("setup", GITHUB)
    assert run.code == 0, run.text
    assert "doit setup: nothing was changed, for nobody can be asked; doit setup --yes does it" in run.out
    assert google.has["changes"] == 0
    assert "Traceback" not in run.text
    services = ["artifactregistry", "cloudbuild", "iam", "iamcredentials", "logging", "secretmanager", "storage"]
    names = " ".join(f"{name}.googleapis.com" for name in services)
    settings = "--uniform-bucket-level-access --public-access-prevention --soft-delete-duration=0"
    commands = shown(run.out)
    assert commands[:3] == [
        f"gcloud services enable --project=proj {names}",
        f"gcloud storage buckets create gs://bucket --project=proj --location=us-central1 {settings}",
        "gcloud storage buckets update gs://bucket --update-labels=imagetiers=tiny",
    ]
    assert len(commands) == 1 + 2 + 3 + 2 + 2 + 10
    assert sum("--immutable-tags" in command for command in commands) == 1, "tags by key; the others move"


def test_there_and_back(here: Here, google: Google) -> None:
    assert "doit setup: all of it is set up" in here.setup()
    assert google.things == {
        "buckets": ["bucket"],
        "repositories": ["channels", "images", "tools"],
        "accounts": [BUILD, PR],
        "triggers": ["imagetiers", "imagetiers-pr"],
    }
    trusted, theirs = (google.has["triggers"][name] for name in ("imagetiers", "imagetiers-pr"))
    assert (trusted["branch_pattern"], trusted["build_config"]) == ("^main$", "ci/cloudbuild.yaml")
    assert (theirs["pull_request_pattern"], theirs["build_config"]) == ("^main$", "ci/cloudbuild-pr.yaml")
    assert trusted["service_account"] == f"projects/proj/serviceAccounts/{BUILD}"
    assert theirs["service_account"] == f"projects/proj/serviceAccounts/{PR}"
    build, pr = (f"serviceAccount:{email}" for email in (BUILD, PR))
    writer, reader = "roles/artifactregistry.writer", "roles/artifactregistry.reader"
    assert google.roles == {
        "proj": {"roles/logging.logWriter": [build, pr]},
        "bucket": {"roles/storage.objectUser": [build], "roles/storage.objectViewer": [pr]},
        "images": {writer: [build], reader: [pr]},
        "channels": {writer: [build], reader: [pr]},
        "tools": {reader: [build, pr]},
    }

    assert "doit setup: nothing to do" in here.setup()
    before = google.has["changes"]
    asked = here.teardown(agreed=False)
    assert google.has["changes"] == before, asked
    assert len(shown(asked)) == 2 + 10 + 2 + 3 + 1

    here.teardown()
    assert google.things == {"buckets": [], "repositories": [], "accounts": [], "triggers": []}
    assert google.roles == {}
    assert "doit teardown: nothing to do" in here.teardown()


def test_what_somebody_else_has_made_stays(here: Here, google: Google) -> None:
    theirs = {"labels": {"imagetiers": "another"}}
    google.change(
        calls=[],
        changes=0,
        services=[f"{name}.googleapis.com" for name in ("artifactregistry", "cloudbuild", "iam", "storage")],
        buckets={"bucket": theirs},
        repositories={"images": {"description": "made by doit setup of another; its doit teardown removes it"}},
        accounts={PR: {"description": "by hand"}},
        triggers={"imagetiers": {"description": "by hand"}, "nightly": {"description": MARK + "!"}},
        policies={"bucket": {"roles/storage.objectUser": ["user:me"]}},
    )
    before = google.has
    up = here.setup()
    assert "bucket gs://bucket was not made by doit setup: it is used as it is, and teardown lets it be" in up
    assert all(PR not in who for roles in google.roles.values() for who in map("".join, roles.values())), "no trace"
    assert google.things["repositories"] == ["channels", "images", "tools"]

    assert f"account {PR} stays: it was not made by doit setup" in here.teardown()
    for kind in ("buckets", "repositories", "accounts", "triggers"):
        assert google.has[kind] == before[kind], kind
    assert google.roles == {"bucket": {"roles/storage.objectUser": ["user:me"]}}


def test_what_holds_something_stays(here: Here, google: Google) -> None:
    here.setup(github="")
    kinds = google.has
    kinds["buckets"]["bucket"]["holds"] = ["prefix"]
    kinds["repositories"]["images"]["holds"] = ["tiny/base", "tiny/app"]
    google.change(**kinds)
    down = here.teardown()
    assert "bucket gs://bucket stays: it holds prefix" in down
    assert "repository us-central1-docker.pkg.dev/proj/images stays: it holds base and more" in down
    assert google.things == {"buckets": ["bucket"], "repositories": ["images"], "accounts": [], "triggers": []}


@pytest.mark.parametrize("change", [1, 2, 3, 4, 7, 8, 9, 10, 11, 20])  # one of each kind, and the last
def test_killed_after_any_change_it_goes_on(
    here: Here, google: Google, monkeypatch: pytest.MonkeyPatch, change: int
) -> None:
    monkeypatch.setenv("GCLOUD_DIES_AFTER", str(change))
    with pytest.raises(SetupError, match="ended with exit code -9"):
        here.setup()
    monkeypatch.delenv("GCLOUD_DIES_AFTER")
    if change % 2:  # either verb goes on from there
        here.setup()
        assert google.things["triggers"] == ["imagetiers", "imagetiers-pr"]
        assert len(google.roles["proj"]["roles/logging.logWriter"]) == 2
    here.teardown()
    without_label = change == 2  # gcloud makes no bucket with a label, and without one nobody knows whose it is
    assert google.things == {
        "buckets": ["bucket"] if without_label else [],
        "repositories": [],
        "accounts": [],
        "triggers": [],
    }


def test_a_variant_has_triggers_of_its_own_and_one_teardown_finds_all(project: Checkout, google: Google) -> None:
    project.edit("pipeline.yaml", "variants:\n", "variants:\n  small: {}\n")
    assert project.doit("setup", "--yes", GITHUB).code == 0
    run = project.doit("variant=small", "setup", "--yes", GITHUB, "--branch=release/1.0")
    assert run.code == 0, run.text
    assert google.things["triggers"] == ["imagetiers", "imagetiers-pr", "imagetiers-small", "imagetiers-small-pr"]
    assert google.has["triggers"]["imagetiers-small"]["branch_pattern"] == r"^release/1\.0$"
    assert google.has["triggers"]["imagetiers-small"]["build_config"] == "ci/cloudbuild-small.yaml"
    assert project.doit("teardown", "--yes").code == 0
    assert google.things["triggers"] == []


def test_what_is_wrong(project: Checkout) -> None:
    exits = {
        "--github=name": "names no repository on GitHub",
        "--by=hand": "names no program",
        "--branch=": "names no branch",
    }
    for option, what in exits.items():
        run = project.doit("setup", option)
        assert (run.code, what in run.err) == (3, True), run.text
    no_files = project.doit("setup", "--by=terraform")
    assert (no_files.code, "ci/terraform holds no *.tf file" in no_files.err) == (1, True), no_files.text
    without = project.doit("setup", PATH=str(Path(sys.executable).parent))
    assert (without.code, "gcloud is not on the PATH" in without.err) == (1, True), without.text
    untrusted = project.doit("trust=untrusted", "branch=pr-7", "setup")
    assert (untrusted.code, "this build is untrusted" in untrusted.err) == (1, True), untrusted.text
    program = Path(project.env["PATH"].partition(os.pathsep)[0]) / "gcloud"
    program.write_text("#!/bin/sh\necho 'ERROR: (gcloud.services.list) no such project' >&2\nexit 1\n")
    refused = project.doit("setup")
    assert (refused.code, "no such project" in refused.out, "exit code 1" in refused.err) == (1, True, True), (
        refused.text
    )
    program.write_text("#!/bin/sh\necho '[nonsense'\n")
    broken = project.doit("setup")
    assert (broken.code, "gcloud services list --enabled has printed what is no JSON" in broken.err) == (1, True)
    project.edit("pipeline.yaml", "registry: us-central1-docker.pkg.dev/proj/images", "registry: localhost:1/x")
    elsewhere = project.doit("setup")
    assert (elsewhere.code, "says in no project of Google's" in elsewhere.err) == (1, True), elsewhere.text
    for run in (no_files, without, untrusted, refused, broken, elsewhere):
        assert "Traceback" not in run.text


REAL = shutil.which("gcloud")


@pytest.mark.soak
@pytest.mark.skipif(not REAL, reason="gcloud is not installed")
def test_the_real_gcloud_reads_each_command(project: Checkout, google: Google, tmp_path: Path) -> None:
    """Of those that it cannot read it says so with exit code 2; the others need an account, which nobody has here: 1."""
    assert project.doit("setup", "--yes", GITHUB).code == 0
    assert project.doit("teardown", "--yes").code == 0
    env = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path / "nobody"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    seen: dict[tuple[str, ...], list[str]] = {}
    for call in google.calls:  # one of a kind: gcloud takes a second to start
        seen.setdefault(
            tuple(word.partition("=")[0] for word in call if word.startswith("-") or word in call[:3]), call
        )
    assert len(seen) > 20
    for call in seen.values():
        done = subprocess.run([str(REAL), *call], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1, (call, done.stderr)
        assert "credentials" in done.stderr or "NoActiveAccount" in done.stderr, (call, done.stderr)
