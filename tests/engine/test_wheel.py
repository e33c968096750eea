"""The wheel in somebody else's repository: a virtual environment and a folder that know nothing of this checkout."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.conftest import REPO, Checkout, Run, docker, remove_all


@dataclass(frozen=True)
class Installed(Checkout):
    """A folder whose doit and imagetiers are those of a wheel."""

    bin: Path = Path()

    def run(self, program: str, *args: str) -> Run:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        done = subprocess.run(
            [str(self.bin / program), *args],
            cwd=self.root,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr, 0)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy: setuptools leaves its folders beside what it builds."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        check=True,
        capture_output=True,
    )
    subprocess.run(
        ["tar", "--create", "--null", "--files-from=-", f"--file={copy}/source.tar"],
        cwd=REPO,
        input=tracked.stdout,
        check=True,
    )
    subprocess.run(["tar", "--extract", "--file=source.tar"], cwd=copy, check=True)
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(copy))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel beside the locked packages that are here, without this checkout and without what only extras need.

    Return the folder of programs.
    """
    root = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(root)], check=True)
    python = root / "bin" / "python"
    pip(str(python), "install", "--no-deps", "--no-index", str(wheel))
    locked = Path(sysconfig.get_path("purelib"))
    (target,) = root.glob("lib/python*/site-packages")
    for entry in locked.iterdir():  # links: a copy would take as long as an installation
        left_out = entry.name.startswith(("imagetiers", "__editable__", "google", "hcl2", "python_hcl2"))
        if not left_out and entry.suffix != ".pth" and not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry)
    (root / "bin" / "doit").write_text(f"#!{python}\nfrom doit.__main__ import main\nmain()\n")
    (root / "bin" / "doit").chmod(0o755)
    return root / "bin"


@pytest.fixture
def folder(tmp_path: Path, environment: Path) -> Iterator[Installed]:
    name = f"test-{secrets.token_hex(4)}"
    root = tmp_path / name  # init names the pipeline by its folder
    root.mkdir()
    made = Installed(root, name, bin=environment)
    yield made
    remove_all(made)


def pip(python: str, *args: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *args],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def add_tier(folder: Installed) -> None:
    """Add a tier in the README's own way: a line and a folder."""
    images = folder.root / "images" / "my-tier"
    images.mkdir()
    (images / "Dockerfile").write_text("ARG PARENT\nFROM ${PARENT}\nCOPY hello.txt /hello.txt\n")
    (images / ".image-manifest").write_text("hello.txt\n")
    (images / "hello.txt").write_text("hello\n")
    (images / "verify.py").write_text("print('ok   ' + open('/hello.txt').read().strip())\n")
    with (folder.root / "pipeline.yaml").open("a") as pipeline:
        pipeline.write("  my-tier: {parent: app}\n")


def test_from_an_empty_folder_to_three_tiers_and_an_edit_explained(folder: Installed) -> None:
    began = folder.run("imagetiers", "init")
    assert began.code == 0, began.text
    assert began.out.endswith("next: doit plan shows what would be done, doit does it\n")
    add_tier(folder)

    first = folder.run("doit")
    assert first.code == 0, first.text
    tiers = ["base", "app", "my-tier"]
    assert first.executed == [f"{verb}:{tier}" for verb in ("image", "verify") for tier in tiers]
    said = docker("run", "--rm", f"{folder.name}/my-tier:latest", "sh", "-c", "hello; cat /hello.txt")
    assert said == "hello, world\nhello\n"
    again = folder.run("doit")
    assert (again.code, again.executed) == (0, [])

    assert folder.run("doit", "cloudbuild").code == 0
    checked = folder.run("doit", "cloudbuild", "--check")
    assert checked.code == 0, checked.text

    hello = folder.root / "images" / "app" / "hello"
    hello.write_text(hello.read_text().replace("world", "moon"))
    explained = folder.run("doit", "explain", "my-tier")
    assert explained.code == 0, explained.text
    edit = 'images/app/hello:2: edited\n      - echo "${GREETING}, world"\n      + echo "${GREETING}, moon"'
    assert edit in explained.out
    failed = folder.run("doit")
    assert failed.code == 1
    assert "verify:app: hello did not print 'hello, world'; it printed:\n    hello, moon" in failed.err


def test_the_commands_of_doit_are_ours_in_a_folder_below(folder: Installed) -> None:
    folder.run("imagetiers", "init")
    below = Installed(folder.root / "images" / "app", folder.name, bin=folder.bin)

    wrong = below.run("doit", "-k", "image:ap")

    assert (wrong.code, wrong.err) == (3, "ERROR: there is no task 'image:ap'\n  hint: did you mean 'image:app'?\n")


def test_a_bucket_without_its_extra_names_the_extra(folder: Installed) -> None:
    folder.run("imagetiers", "init")
    folder.edit("pipeline.yaml", "cache: .imagetiers/cache", "cache: gs://bucket/prefix")

    run = folder.run("doit", "plan")

    assert run.code == 3
    assert run.err == (
        "ERROR: one problem in the pipeline; nothing was run\n"
        "cache: gs://bucket/prefix needs google.cloud.storage, which is not installed\n"
        "  hint: pip install 'imagetiers[gcs]'\n"
    )


def test_a_python_program(folder: Installed) -> None:
    assert folder.run("imagetiers", "init", "--variant", "python-app").code == 0

    run = folder.run("doit")

    assert run.code == 0, run.text
    assert docker("run", "--rm", f"{folder.name}/app:latest") == "hello, world\n"
