"""What a doit costs that has nothing to do: the modules that it imports, and the functions that it calls.

Held by counts, which are the same on every machine and under every load; seconds are in `benchmarks/noop.py`.
"""

from __future__ import annotations

import os
import pstats
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.many.daemon import daemon
from tests.many.repository import images_json, make_repository, mark_verified, plan_of, remember_plan

REPO = HERE.parent
# What no run needs that has nothing to do: other transports than the daemon's socket, formats, cryptography, tables.
UNNEEDED = {
    "asyncio", "concurrent", "cryptography", "docker", "email.parser", "google", "http", "jsonschema", "logging",
    "requests", "rich", "ssl", "tarfile", "urllib3", "yaml", "zstandard",
    "imagetiers.bake", "imagetiers.ccache", "imagetiers.operations", "imagetiers.report.cloudbuild", "imagetiers.report.tables",
    "imagetiers.config.gpus", "imagetiers.config.loader", "imagetiers.config.schema", "imagetiers.dockerfile",
    "imagetiers.inputs.repository", "imagetiers.inputs.snapshot", "imagetiers.planning.containers", "imagetiers.planning.make",
    "imagetiers.scaffold",
    "imagetiers.adapters.cosign", "imagetiers.adapters.git", "imagetiers.adapters.hadolint", "imagetiers.adapters.registry",
    "imagetiers.adapters.trivy", "imagetiers.signing", "imagetiers.state.registry", "imagetiers.stores.directory",
    "imagetiers.stores.gcs",
}  # fmt: skip
# What an interpreter of this environment has imported before it runs anything: some packages' .pth files do.
AT_START = set(
    subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
)


@dataclass(frozen=True)
class Built:
    """A checkout whose four tiers are all there, as far as its daemon knows."""

    root: Path
    env: dict[str, str]
    asked: list[str]

    def doit(self, *args: str, program: tuple[str, ...] = ("-m", "doit")) -> str:
        argv = [sys.executable, *program, *args]
        done = subprocess.run(argv, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def built(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Built]:
    layout = make_repository(tmp_path / "checkout", getattr(request, "param", 4), "chain")
    plan = plan_of(layout)
    mark_verified(layout, plan)
    path = tmp_path / "daemon.sock"
    with daemon(path, images_json(plan)) as asked:
        env = {**os.environ, "PYTHONPATH": str(REPO), "DOCKER_HOST": f"unix://{path}"}
        made = Built(layout.root, env, asked)
        made.doit()
        remember_plan(layout)
        asked.clear()
        yield made


def imported(where: Path, env: dict[str, str]) -> set[str]:
    """Return the modules that a doit imports in that folder."""
    program = "import sys\nfrom doit.doit_cmd import DoitMain\nDoitMain().run([])\nprint(*sys.modules)"
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd=where, env=env, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()) - AT_START


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "dodo.py").write_text("def task_empty():\n    return {'actions': None}\n")
    return folder


def test_the_daemon_is_asked_one_question(built: Built) -> None:
    assert built.doit().count("-- ") == 10

    assert [target.partition("?")[0] for target in built.asked] == ["/_ping", "/images/json"]


def test_nothing_is_imported_that_is_not_needed(built: Built, empty: Path) -> None:
    modules = imported(built.root, built.env)

    assert "imagetiers.tasks.tasks" in modules
    assert {name for name in modules if any(name == no or name.startswith(f"{no}.") for no in UNNEEDED)} == set()
    assert len(modules - imported(empty, built.env)) <= 64


def test_an_empty_doit_pays_for_nothing_of_ours_but_the_commands(empty: Path) -> None:
    modules = imported(empty, {**os.environ, "PYTHONPATH": str(REPO)})

    assert "imagetiers.tasks.doit_plugins" in modules
    assert not {"yaml", "imagetiers.config.yamltree", "imagetiers.planning"} & modules


def test_the_calls_are_within_those_of_an_empty_doit_and_a_half(built: Built, empty: Path, tmp_path: Path) -> None:
    def calls(where: Path) -> int:
        profile = tmp_path / "calls"
        argv = [sys.executable, "-m", "cProfile", "-o", str(profile), "-m", "doit"]
        subprocess.run(argv, cwd=where, env=built.env, capture_output=True, check=True)
        return int(pstats.Stats(str(profile)).total_calls)  # type: ignore[attr-defined]  # typeshed has no counts

    assert calls(built.root) <= 1.5 * calls(empty)


@pytest.mark.parametrize("built", [101], indirect=True)
def test_a_plan_of_many_tiers_lists_those_that_something_is_done_for(built: Built) -> None:
    assert built.doit("plan").splitlines() == [
        "101 of 101 tiers are there, and nothing would run for them: doit plan --why shows them, too"
    ]
    edited = built.root / "images/t00100/data/0"
    edited.write_text("edited")

    lines = built.doit("plan").splitlines()

    assert {line.split()[0] for line in lines if line.startswith("t0")} == {"t00100"}
    assert any(line.startswith("100 of 101 tiers are there") for line in lines)
    assert len({line.split()[0] for line in built.doit("plan", "--why").splitlines() if line.startswith("t0")}) == 101
