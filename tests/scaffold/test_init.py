"""`imagetiers init`, `imagetiers --version`: what is written, what is said, and that nothing is ever overwritten."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from imagetiers import __version__
from imagetiers.cli import main
from imagetiers.config.editor_schema import editor_schema_text
from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.scaffold.variants import VARIANTS, pipeline_name
from imagetiers.tasks.reading import pipeline_problems
from tests.conftest import HERE, Golden

REPO = HERE.parent
TEXTS = HERE / "golden" / "cli.txt"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "My Project"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): (path.stat().st_mode, path.read_bytes()) for path in files}


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_is_right_as_it_is_written(variant: str, folder: Path) -> None:
    assert main(["init", "--variant", variant]) == 0

    layout = Layout(folder)
    repository = load_repository(layout, None)
    assert repository.pipeline.name == "my-project"
    assert len(repository.pipeline.tiers) >= 2
    assert pipeline_problems(layout, repository.variants) == ()
    for name in repository.pipeline.tiers:
        for file in ("Dockerfile", ".image-manifest"):
            assert (folder / "images" / name / file).is_file(), (name, file)
    assert (folder / "dodo.py").read_bytes() == (REPO / "dodo.py").read_bytes()


def test_an_editor_finds_the_schema_where_the_first_line_sends_it(folder: Path) -> None:
    main(["init"])

    first = (folder / "pipeline.yaml").read_text().splitlines()[0]
    schema = folder / first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads(schema.read_text()) == json.loads(editor_schema_text())
    assert schema == Layout(folder).editor_schema
    assert f"{schema.parent.name}/" in (folder / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("variant", [None, "cpu", "quickstart"])
def test_the_pytorch_that_is_written_is_the_one_of_this_repository_bit_for_bit(
    variant: str | None, folder: Path
) -> None:
    main(["init", "--variant", "pytorch"])
    day = date(2026, 11, 21)

    ours, theirs = (make_plan(load_repository(Layout(root), variant), day) for root in (REPO, folder))

    our, their = (plan.tiers["pytorch-clean"] for plan in (ours, theirs))
    assert their.key == our.key
    assert our.compile is not None
    assert their.compile is not None
    assert their.compile.key == our.compile.key


def test_nothing_is_overwritten_and_then_nothing_is_written(folder: Path) -> None:
    (folder / "images" / "app").mkdir(parents=True)
    (folder / "images" / "app" / "Dockerfile").write_text("FROM mine\n")
    (folder / "dodo.py").symlink_to("nowhere")
    before = everything(folder)

    assert main(["init"]) == 1

    assert everything(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == ["dodo.py", "images"]


def test_a_gitignore_stays_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".gitignore").write_text("*.o\n")

    assert main(["init"]) == 0

    assert (folder / ".gitignore").read_text() == "*.o\n"
    assert "add .imagetiers/ to .gitignore" in capsys.readouterr().out


def test_a_folder_that_takes_nothing_is_an_error_without_a_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "images").write_text("a file\n")

    assert main(["init"]) == 1

    assert "a file is where a folder should be" in capsys.readouterr().err
    assert list(everything(folder)) == ["images"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("My Project", "my-project"),
        ("--", "pipeline"),
        ("", "pipeline"),
        ("a" * 70, "a" * 60),
        ("Überbau 2", "berbau-2"),
    ],
)
def test_names_of_pipelines(name: str, expected: str) -> None:
    assert pipeline_name(name) == expected


@pytest.mark.usefixtures("folder")
def test_what_is_said(capsys: pytest.CaptureFixture[str], golden: Golden) -> None:
    said = []
    for args in ("--version", "init", "init", "init --variant pytorc", "init --varient x", "innit", "init extra"):
        code = main(args.split())
        shown = capsys.readouterr()
        said.append(f"$ imagetiers {args}\n{shown.out}{shown.err}exit code {code}\n")

    golden("\n".join(said).replace(__version__, "VERSION"), TEXTS)
