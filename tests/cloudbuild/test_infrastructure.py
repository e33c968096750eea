"""ci/terraform and ci/github-actions.yaml: as far as they can be checked without Google Cloud and GitHub."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from hcl2.utils import SerializationOptions

from imagetiers.building.ccache_session import namespace_chain
from imagetiers.config.model import CloudBuild, Trust
from tests.conftest import HERE

REPO = HERE.parent
TERRAFORM = REPO / "ci" / "terraform"
OPTIONS = SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
Body = dict[str, Any]

needs_terraform = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")


def terraform(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = ["terraform", f"-chdir={folder}", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def parse(text: str) -> Body:
    return dict(hcl2.loads(text, serialization_options=OPTIONS))


FILES = [parse(path.read_text()) for path in sorted(TERRAFORM.glob("*.tf"))]
USED = json.dumps(FILES)


def blocks(kind: str) -> dict[str, Body]:
    """Return the top-level blocks of a kind by their labels: `TYPE.NAME`, or the name alone."""
    found: dict[str, Body] = {}
    for file in FILES:
        for block in file.get(kind, []):
            ((label, body),) = block.items()
            found |= {f"{label}.{name}": inner for name, inner in body.items()} if kind == "resource" else {label: body}
    return found


RESOURCES = blocks("resource")


def local(name: str) -> str:
    """Return an expression of `locals`."""
    (found,) = (block[name] for file in FILES for block in file.get("locals", []) if name in block)
    return str(found)


def strings(expression: str) -> list[str]:
    return [json.loads(text) for text in re.findall(r'"(?:[^"\\]|\\.)*"', expression)]


def writable(branch: str) -> tuple[str, ...]:
    """Return what the names begin with that IAM lets the untrusted builds of a branch write."""
    starts = strings(local("written_by"))
    assert starts
    return tuple(start.replace("${local.root}", "").replace("${branch}", branch) for start in starts)


def test_what_is_read_does_not_hang_on_blanks() -> None:
    for path in TERRAFORM.glob("*.tf"):
        text = path.read_text()
        for other in (re.sub(r"(?m)^( *\w+) += ", r"\1=", text), re.sub(r"(?m)^( *\w+) += ", r"\1   =   ", text)):
            assert other != text
            assert parse(other) == parse(text), path.name


@needs_terraform
def test_format() -> None:
    done = terraform(TERRAFORM, "fmt", "-check", "-diff")

    assert done.returncode == 0, done.stdout + done.stderr


@needs_terraform
def test_validate(tmp_path: Path) -> None:
    for path in TERRAFORM.glob("*.tf"):
        shutil.copy(path, tmp_path)
    if terraform(tmp_path, "init", "-backend=false", "-input=false").returncode != 0:
        pytest.skip("terraform cannot get the provider hashicorp/google here")
    done = terraform(tmp_path, "validate")

    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_used_is_there_and_what_is_there_is_used() -> None:
    variables = blocks("variable")

    assert set(re.findall(r"\bvar\.(\w+)", USED)) == set(variables)
    assert set(re.findall(r"\b(google_\w+\.\w+)(?=[.\]\[])", USED)) <= set(RESOURCES)
    assert all(variable["description"] for variable in variables.values())


def test_tags_by_key_are_immutable_and_channels_apart() -> None:
    def immutable(name: str) -> object:
        (config,) = RESOURCES[f"google_artifact_registry_repository.{name}"]["docker_config"]
        return config["immutable_tags"]

    assert blocks("variable")["immutable_keys"]["default"] is True
    assert immutable("images") == "${var.immutable_keys}"
    assert immutable("channels") is False
    for output, repository in (("registry", "images"), ("channels", "channels")):
        value = blocks("output")[output]["value"]
        assert value.endswith(f"/${{google_artifact_registry_repository.{repository}.repository_id}}"), (
            "for pipeline.yaml"
        )


def test_the_bucket() -> None:
    bucket = RESOURCES["google_storage_bucket.cache"]

    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == "enforced"
    assert bucket["soft_delete_policy"] == [{"retention_duration_seconds": 0}]
    (rule,) = bucket["lifecycle_rule"]
    assert rule["action"] == [{"type": "Delete"}]
    ((prefix,),) = (condition["matches_prefix"] for condition in rule["condition"])
    removed = prefix.removeprefix("${local.root}")
    assert removed != prefix
    assert f"{Trust(trusted=False, branch='pr-7').prefix}wheels/x.tar".startswith(removed)
    own, trusted = namespace_chain("line", Trust(trusted=False, branch="pr-7"), "4.14.2")
    for name in (f"ccache/{own}/packs/x", f"ccache/{trusted}/packs/x", "wheels/x.tar"):
        assert not name.startswith(removed), "an old pack may be in use: age is for prune"


def test_what_untrusted_builds_write_is_what_they_may_write_and_nothing_else() -> None:
    starts = writable("pr-7")
    own, trusted = namespace_chain("line", Trust(trusted=False, branch="pr-7"), "4.14.2")
    other, _ = namespace_chain("line", Trust(trusted=False, branch="pr-70"), "4.14.2")

    assert f"ccache/{own}/head".startswith(starts)
    assert f"{Trust(trusted=False, branch='pr-7').prefix}wheels/x.tar".startswith(starts)
    assert not f"ccache/{trusted}/head".startswith(starts)
    assert not f"ccache/{other}/head".startswith(starts)
    assert not f"{Trust(trusted=False, branch='pr-70').prefix}wheels/x.tar".startswith(starts)
    assert not "wheels/x.tar".startswith(starts)


@needs_terraform
def test_terraform_makes_the_conditions_that_the_attackers_were_held_by(tmp_path: Path) -> None:
    for name in ("names.tf", "variables.tf"):
        shutil.copy(TERRAFORM / name, tmp_path)
    given = {"project": "p", "bucket": "b", "prefix": "", "github_owner": "o", "github_repository": "r"}
    (tmp_path / "terraform.tfvars.json").write_text(json.dumps(given | {"untrusted_branches": ["pr-7"]}))
    command = ["terraform", f"-chdir={tmp_path}", "console"]
    asked = "jsonencode(local.may_write)\n"
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    wanted = [f'resource.name.startsWith("projects/_/buckets/b/objects/{start}")' for start in writable("pr-7")]
    assert json.loads(json.loads(done.stdout)) == {"pr-7": " || ".join(wanted)}


def test_pull_requests_only_read() -> None:
    theirs = re.compile(r"\bgoogle_service_account\.(pr|branch)\b")
    roles = {
        body["role"]
        for body in RESOURCES.values()
        if "role" in body and theirs.search(json.dumps(body)) and "condition" not in body
    }

    assert roles == {
        "roles/logging.logWriter",
        "roles/storage.objectViewer",
        "roles/artifactregistry.reader",
        "roles/iam.workloadIdentityUser",
    }
    triggers = {name: RESOURCES[f"google_cloudbuild_trigger.{name}"]["service_account"] for name in ("pr", "trusted")}
    assert triggers == {"pr": "${google_service_account.pr.id}", "trusted": "${google_service_account.build.id}"}


def test_what_branches_write_is_under_a_condition() -> None:
    writers = [
        body["condition"]
        for body in RESOURCES.values()
        if body.get("role") == "roles/storage.objectUser" and "google_service_account.build" not in json.dumps(body)
    ]

    assert [[condition["expression"] for condition in conditions] for conditions in writers] == [
        ["${local.may_write[each.key]}"]
    ]


def test_the_accounts_are_those_of_the_build_files() -> None:
    made = {body["account_id"] for body in RESOURCES.values() if "account_id" in body}
    settings = CloudBuild(builder="x")

    assert {settings.service_account.split("@")[0], settings.pr_service_account.split("@")[0]} == {
        name for name in made if "$" not in name
    }


def test_the_github_workflow() -> None:
    text = (REPO / "ci" / "github-actions.yaml").read_text()
    workflow = yaml.safe_load(text)
    runs = [step["run"] for step in workflow["jobs"]["images"]["steps"] if "run" in step]

    assert all(run.startswith((".venv/bin/doit ", "ci/bootstrap ", "gcloud auth ")) for run in runs)
    assert workflow["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in text
