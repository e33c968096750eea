"""Shell scripts, Dockerfiles and workflows have linters too, and .pre-commit-config.yaml runs what these tests run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.conftest import HERE

REPO = HERE.parent
BIN = Path(sys.executable).parent
HOOKS = {
    hook["id"]: hook for hook in yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
}


def ours() -> list[Path]:
    """Return the repository's plain files; those of tests/pipelines are wrong on purpose."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPO, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    paths = [REPO / name for name in listed.split("\0") if name and not name.startswith("tests/pipelines/")]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


FILES = ours() if (REPO / ".git").exists() else []
SCRIPTS = [path for path in FILES if re.match(rb"#!\S*[/ ](?:env )?(?:ba|da)?sh\b", path.read_bytes()[:64])]
DOCKERFILES = [path for path in FILES if path.name == "Dockerfile"]
WORKFLOWS = [REPO / "ci" / "github-actions.yaml", *sorted((REPO / ".github" / "workflows").glob("*.y*ml"))]

WORKFLOW = "on: push\njobs: {{a: {{runs-on: ubuntu-24.04, steps: [{{run: 'ls {}'}}]}}}}\n"

needs_git = pytest.mark.skipif(not FILES, reason="not a checkout of git")


def schema(name: str) -> Any:
    return json.loads((files("check_jsonschema") / "builtin_schemas/vendor" / f"{name}.json").read_text("utf-8"))


def lint(tool: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    options = ["-shellcheck", str(BIN / "shellcheck")] if tool == "actionlint" else []
    argv = [str(BIN / tool), *options, *map(str, paths)]
    return subprocess.run(argv, cwd=REPO, capture_output=True, text=True, check=False)


def passes(tool: str, *paths: Path) -> None:
    done = lint(tool, *paths)

    assert done.returncode == 0, done.stdout + done.stderr


@needs_git
def test_scripts() -> None:
    assert REPO / "ci" / "bootstrap" in SCRIPTS
    passes("shellcheck", *SCRIPTS)


@needs_git
def test_dockerfiles() -> None:
    assert len(DOCKERFILES) > 10
    passes("hadolint", *DOCKERFILES)


def test_workflows_have_the_form_that_github_reads() -> None:
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        workflow["on"] = workflow.pop(True)  # YAML 1.1 takes the word for a truth value; GitHub does not
        errors = [error.message for error in Draft7Validator(schema("github-workflows")).iter_errors(workflow)]
        assert errors == [], path


def test_workflows() -> None:
    passes("actionlint", *WORKFLOWS)


@pytest.mark.parametrize(
    ("tool", "name", "text", "told"),
    [
        ("shellcheck", "script", "#!/bin/sh\nrm -rf $1/x\n", "SC2086"),
        ("hadolint", "Dockerfile", "FROM debian:trixie\nRUN cd /src && make\nMAINTAINER me\n", "DL4000"),
        ("actionlint", "workflow.yaml", WORKFLOW.format("${{ github.head_ref }}"), "is potentially untrusted"),
        ("actionlint", "workflow.yaml", WORKFLOW.format("$HOME"), "SC2086"),
    ],
)
def test_what_is_wrong_is_told(tool: str, name: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    done = lint(tool, tmp_path / name)

    assert done.returncode != 0
    assert told in done.stdout


def test_pre_commit_has_these_tools_and_they_are_there() -> None:
    linters = {"ruff", "ruff-format", "mypy", "import-linter", "shellcheck", "hadolint", "actionlint"}
    assert set(HOOKS) >= linters
    for hook in HOOKS.values():
        if hook["language"] == "system":
            command, *_ = hook["entry"].split()
            assert (BIN / Path(command).name).exists(), hook["id"]
            assert command.startswith(".venv/bin/"), hook["id"]


def pre_commit(*argv: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "pre-commit"), *argv]
    env = {**os.environ, "PRE_COMMIT_HOME": str(home)}
    return subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, check=False)


def test_pre_commit_takes_its_configuration(tmp_path: Path) -> None:
    done = pre_commit("validate-config", home=tmp_path)

    assert done.returncode == 0, done.stdout


@needs_git
@pytest.mark.skipif(BIN != REPO / ".venv" / "bin", reason="the hooks are those of .venv")
@pytest.mark.parametrize("hook", ["shellcheck", "hadolint", "ruff-format", "actionlint"])
def test_pre_commit_runs(hook: str, tmp_path: Path) -> None:
    done = pre_commit("run", hook, "--all-files", home=tmp_path)

    assert done.returncode == 0, done.stdout
    assert "Passed" in done.stdout, "Skipped: it found no files"
