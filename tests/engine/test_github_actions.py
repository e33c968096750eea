"""The steps of ci/github-actions.yaml, run one by one on the tiny pipeline, as GitHub gives them to bash."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import yaml

from tests.engine.conftest import REPO, Checkout

JOB: Mapping[str, Any] = yaml.safe_load((REPO / "ci" / "github-actions.yaml").read_text())["jobs"]["images"]
NOT_HERE = ("gcloud ", "ci/bootstrap ")  # no Google Cloud is reached; the environment is that of the tests


def evaluated(text: str, github: SimpleNamespace) -> str:
    """Replace the expressions of a value: of their language, `env:` uses what Python writes with other operators."""

    def value(found: re.Match[str]) -> str:
        python = found[1].strip().replace("&&", " and ").replace("||", " or ")
        names = {"github": github, "format": lambda form, *values: form.format(*values)}
        return str(eval(python, {"__builtins__": {}}, names))  # noqa: S307  this repository's own file

    return re.sub(r"\$\{\{(.*?)\}\}", value, text)


def test_the_steps_of_a_push_and_then_of_a_pull_request(checkout: Checkout) -> None:
    (checkout.root / ".venv").symlink_to(sys.prefix)
    assert checkout.doit("cloudbuild").code == 0  # as somebody commits it
    events = {
        "push": SimpleNamespace(event_name="push"),
        "pull_request": SimpleNamespace(event_name="pull_request", event=SimpleNamespace(number=7)),
    }
    said: dict[str, str] = {}
    for name, github in events.items():
        env = {key: evaluated(value, github) for key, value in JOB["env"].items()}
        runs = [step["run"] for step in JOB["steps"] if "run" in step and not step["run"].startswith(NOT_HERE)]
        assert len(runs) == 4
        for run in runs:
            assert "${{" not in run
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", run],  # GitHub's own way
                cwd=checkout.root,
                env={**os.environ, "PYTHONPATH": str(REPO), **env},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{name}: {run}\n{done.stdout}{done.stderr}"
            said[name] = said.get(name, "") + done.stdout
        checkout.edit("images/arr-base/config/arr-base.txt", "", "edited\n")

    assert "image:arr-training: " in said["push"]
    assert "built in" in said["push"]
    assert "compile:pytorch-clean: " in said["push"]
    assert (checkout.root / ".imagetiers" / "untrusted").is_dir(), "pull requests have folders of their own"
