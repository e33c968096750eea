"""doit setup and teardown, with the real Terraform on resources that need no provider from elsewhere."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Checkout

pytestmark = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")

INFRASTRUCTURE = """
resource "terraform_data" "bucket" { input = "bucket" }
resource "terraform_data" "registry" { input = "registry" }
output "cache" { value = "gs://bucket/prefix" }
output "registry" { value = "host/project" }
"""


@pytest.fixture
def project(offline: Checkout) -> Checkout:
    """The tiny pipeline, with infrastructure of its own that is yet to be made."""
    folder = offline.root / "ci" / "terraform"
    folder.mkdir(parents=True)
    (folder / "main.tf").write_text(INFRASTRUCTURE)
    return offline


def made(checkout: Checkout) -> list[str]:
    """Return what Terraform's state has."""
    state = checkout.root / "ci" / "terraform" / "terraform.tfstate"
    if not state.exists():
        return []
    document: dict[str, Any] = json.loads(state.read_text())
    return sorted(resource["name"] for resource in document["resources"])


def test_nothing_is_made_where_nobody_can_be_asked(project: Checkout) -> None:
    run = project.doit("setup")
    assert run.code == 0, run.text
    assert "$ terraform -chdir=ci/terraform plan -input=false -no-color -detailed-exitcode" in run.out
    assert "Plan: 2 to add, 0 to change, 0 to destroy." in run.out
    assert "doit setup: nothing was changed, for nobody can be asked; doit setup --yes does it" in run.out
    assert made(project) == []
    assert not (project.root / ".imagetiers" / "state" / "terraform.plan").exists()


def test_there_and_back(project: Checkout) -> None:
    up = project.doit("setup", "--yes")
    assert up.code == 0, up.text
    assert "Apply complete! Resources: 2 added" in up.out
    assert made(project) == ["bucket", "registry"]
    assert 'pipeline.yaml: cache is ".imagetiers/cache"; what was set up is "gs://bucket/prefix"' in up.out
    assert 'pipeline.yaml: registry is null; what was set up is "host/project"' in up.out

    again = project.doit("setup", "--yes")
    assert (again.code, "doit setup: nothing to do" in again.out) == (0, True), again.text
    asked = project.doit("teardown")
    assert (asked.code, "Plan: 0 to add, 0 to change, 2 to destroy." in asked.out) == (0, True), asked.text
    assert made(project) == ["bucket", "registry"]

    down = project.doit("teardown", "--yes")
    assert down.code == 0, down.text
    assert made(project) == []
    nothing = project.doit("teardown", "--yes")
    assert (nothing.code, "doit teardown: nothing to do" in nothing.out) == (0, True), nothing.text


def test_what_somebody_else_has_made_stays(project: Checkout, tmp_path: Path) -> None:
    other = tmp_path / "theirs"
    other.write_text("theirs")
    (project.root / "ci" / "terraform" / "main.tf").write_text(
        f'resource "terraform_data" "ours" {{ input = "{other}" }}\n'
    )
    assert project.doit("setup", "--yes").code == 0
    assert project.doit("teardown", "--yes").code == 0
    assert other.read_text() == "theirs"


@pytest.mark.parametrize(("answer", "resources"), [("yes", ["bucket", "registry"]), ("y", []), ("", []), ("no", [])])
def test_it_asks_on_a_terminal(project: Checkout, answer: str, resources: list[str]) -> None:
    leader, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "doit", "setup"],
        cwd=project.root,
        env={**os.environ, **project.env, "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    os.write(leader, f"{answer}\n".encode())
    said = b""
    try:
        while piece := os.read(leader, 65536):
            said += piece
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(leader)
    assert process.wait(60) == 0, said
    assert b"Shall it be done? [yes/no]" in said
    assert made(project) == resources
    assert (b"doit setup: nothing was changed" in said) == (not resources)


def test_what_is_wrong(project: Checkout) -> None:
    (project.root / "ci" / "terraform" / "main.tf").write_text("resource {")
    broken = project.doit("setup", "--yes")
    assert broken.code == 1
    assert "doit setup: ended with exit code 1: terraform -chdir=ci/terraform init" in broken.err

    empty = project.doit("teardown", "--folder", "ci")
    assert (empty.code, "ci holds no *.tf file" in empty.err) == (1, True), empty.text
    refused = project.doit("trust=untrusted", "branch=pr-7", "setup")
    assert (refused.code, "this build is untrusted" in refused.err) == (1, True), refused.text
    without = project.doit("setup", PATH=str(Path(sys.executable).parent))
    assert (without.code, "terraform is not on the PATH" in without.err) == (1, True), without.text
    assert all("Traceback" not in run.text for run in (broken, empty, refused, without))
