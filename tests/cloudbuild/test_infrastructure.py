"""ci/terraform and ci/github-actions.yaml: as far as they can be checked without Google Cloud and GitHub."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from imagetiers.building.ccache_session import namespace_chain
from imagetiers.config.model import CloudBuild, Trust
from tests.conftest import HERE

REPO = HERE.parent
TERRAFORM = REPO / "ci" / "terraform"
TEXT = "\n".join(path.read_text() for path in sorted(TERRAFORM.glob("*.tf")))
CODE = re.sub(r"^\s*#.*$", "", TEXT, flags=re.MULTILINE)

needs_terraform = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")


def terraform(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = ["terraform", f"-chdir={folder}", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def writable(branch: str) -> tuple[str, ...]:
    """Return what the names begin with that IAM lets the untrusted builds of a branch write."""
    listed = re.search(r"written_by = \{.*?\[(.*?)\]", CODE, re.DOTALL)
    assert listed
    starts = re.findall(r'"(.*?)",', listed[1])
    return tuple(start.replace("${local.root}", "").replace("${branch}", branch) for start in starts)


def block(kind: str, name: str) -> str:
    """Return a top-level block; `terraform fmt` ends each with a brace in the first column."""
    found = re.search(rf'^resource "{kind}" "{name}" \{{\n(.*?)^\}}$', CODE, re.MULTILINE | re.DOTALL)
    assert found, f"{kind}.{name}"
    return found[1]


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
    variables = set(re.findall(r'^variable "(\w+)"', CODE, re.MULTILINE))
    resources = {f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', CODE, re.MULTILINE)}

    assert set(re.findall(r"\bvar\.(\w+)", CODE)) == variables
    assert set(re.findall(r"\b(google_\w+\.\w+)(?=[.\]\[])", CODE)) <= resources
    assert all(f'variable "{name}" {{\n  description' in TEXT for name in variables)


def test_tags_by_key_are_immutable_and_channels_apart() -> None:
    immutable = re.search(r'^variable "immutable_keys" \{.*?^  default\s+= (\w+)', CODE, re.MULTILINE | re.DOTALL)
    assert immutable
    assert immutable[1] == "true"
    assert "immutable_tags = var.immutable_keys" in block("google_artifact_registry_repository", "images")
    assert "immutable_tags = false" in block("google_artifact_registry_repository", "channels")
    named = dict(re.findall(r'^output "(\w+)".*?repository\.(\w+)\.', CODE, re.MULTILINE | re.DOTALL))
    assert (named["registry"], named["channels"]) == ("images", "channels"), "what pipeline.yaml is told"


def test_the_bucket() -> None:
    bucket = block("google_storage_bucket", "cache")

    assert "uniform_bucket_level_access = true" in bucket
    assert re.search(r'public_access_prevention\s+= "enforced"', bucket)
    assert "retention_duration_seconds = 0" in bucket
    assert bucket.count("lifecycle_rule {") == 1
    prefix = re.search(r'matches_prefix = \["\$\{local\.root\}(.*?)"\]', bucket)
    assert prefix
    assert f"{Trust(trusted=False, branch='pr-7').prefix}wheels/x.tar".startswith(prefix[1])
    own, trusted = namespace_chain("line", Trust(trusted=False, branch="pr-7"), "4.14.2")
    for name in (f"ccache/{own}/packs/x", f"ccache/{trusted}/packs/x", "wheels/x.tar"):
        assert not name.startswith(prefix[1]), "an old pack may be in use: age is for prune"


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
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stderr
    wanted = [f'resource.name.startsWith("projects/_/buckets/b/objects/{start}")' for start in writable("pr-7")]
    assert json.loads(json.loads(done.stdout)) == {"pr-7": " || ".join(wanted)}


def test_pull_requests_only_read() -> None:
    roles = {
        role
        for body in re.findall(r'^resource "\w+" "\w+" \{\n(.*?)^\}$', CODE, re.MULTILINE | re.DOTALL)
        for role in re.findall(r'role\s*= "(.*?)"', body)
        if re.search(r"google_service_account\.(pr|branch)\b", body) and "condition {" not in body
    }

    assert roles == {
        "roles/logging.logWriter",
        "roles/storage.objectViewer",
        "roles/artifactregistry.reader",
        "roles/iam.workloadIdentityUser",
    }
    assert "google_service_account.pr.id" in block("google_cloudbuild_trigger", "pr")
    assert "google_service_account.build.id" in block("google_cloudbuild_trigger", "trusted")


def test_the_accounts_are_those_of_the_build_files() -> None:
    made = set(re.findall(r'account_id\s+= "(.*?)"', CODE))
    settings = CloudBuild(builder="x")

    assert {settings.service_account.split("@")[0], settings.pr_service_account.split("@")[0]} == {
        name for name in made if "$" not in name
    }


def test_the_github_workflow() -> None:
    text = (REPO / "ci" / "github-actions.yaml").read_text()
    workflow = yaml.safe_load(text)
    workflow["on"] = workflow.pop(True)  # YAML 1.1 takes the word for a truth value; GitHub does not
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/github-workflows.json").read_text("utf-8"))
    runs = [step["run"] for step in workflow["jobs"]["images"]["steps"] if "run" in step]

    assert [error.message for error in Draft7Validator(schema).iter_errors(workflow)] == []
    assert all(run.startswith((".venv/bin/doit ", "ci/bootstrap ", "gcloud auth ")) for run in runs)
    assert workflow["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in text
