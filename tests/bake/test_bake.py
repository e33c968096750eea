"""Bake files of the kinds that people have: read as bake reads them, ported, and what cannot be ported listed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagetiers.bake.evaluate import evaluate, load_blocks, outline_of
from imagetiers.bake.model import parse_print
from imagetiers.bake.port import port
from imagetiers.bake.variables import find_variables
from imagetiers.cli import main
from imagetiers.config.layout import Layout
from imagetiers.config.model import Secret
from imagetiers.errors import PipelineError
from imagetiers.inputs.repository import load_repository
from imagetiers.scaffold.files import write_new
from tests.conftest import HERE, Golden

pytest.importorskip("hcl2", reason="requirements.lock has it: ci/bootstrap venv")

FILES = Path(__file__).parent / "files"
EVALUATED = {"shop": "docker-bake.hcl", "matrix": "docker-bake.hcl", "json": "docker-bake.json"}


def evaluated(case: str, **env: str) -> dict[str, Any]:
    name = EVALUATED.get(case, "docker-bake.hcl")
    return evaluate(load_blocks((FILES / case / name).read_text(), name), name, env)


def buildx(root: Path, name: str, *targets: str) -> dict[str, Any]:
    done = subprocess.run(
        ["docker", "buildx", "bake", "--print", "--file", name, *targets],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.engine
@pytest.mark.parametrize("case", EVALUATED)
def test_a_file_is_read_as_docker_buildx_reads_it(case: str) -> None:
    name = EVALUATED[case]
    outline = outline_of((FILES / case / name).read_text(), name)
    ours = evaluated(case)

    theirs = buildx(FILES / case, name, *outline.targets)

    assert parse_print(ours, name).targets == parse_print(theirs, name).targets
    for group in outline.groups:
        members = parse_print({**ours, "group": ours["group"]}, name).groups[group]
        printed = buildx(FILES / case, name, group)
        assert members == parse_print(printed, name).groups[group]


@pytest.mark.engine
def test_variables_come_from_the_environment_as_with_buildx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAG", "2.0")

    theirs = buildx(FILES / "shop", "docker-bake.hcl", "api")

    assert evaluated("shop", TAG="2.0")["target"]["api"]["tags"] == theirs["target"]["api"]["tags"]
    assert theirs["target"]["api"]["tags"][0].endswith(":2.0")


@pytest.mark.parametrize("case", EVALUATED)
def test_what_it_becomes(case: str, tmp_path: Path, golden: Golden) -> None:
    name = EVALUATED[case]
    root = tmp_path / case
    shutil.copytree(FILES / case, root)
    outline = outline_of((root / name).read_text(), name)

    bake = parse_print(evaluated(case), name)
    variables = find_variables(outline.variables, bake, lambda env: evaluated(case, **env), name)
    ported = port(bake, outline, root, name, case, variables)
    write_new(root, ported.files)

    shown = [f"changed: {line}" for line in ported.changed] + [f"not ported: {line}" for line in ported.left]
    shown += [f"== {file.path}\n{file.data.decode().rstrip()}" for file in ported.files]
    try:
        shown.append(f"== {len(load_repository(Layout(root), None).pipeline.tiers)} tiers are right")
    except PipelineError as error:
        shown.append(f"== to be mended\n{error}")
    golden("\n".join(shown) + "\n", HERE / "golden" / "bake" / f"{case}.txt")


def test_what_only_bake_can_evaluate_is_an_error_that_names_each() -> None:
    with pytest.raises(PipelineError) as error:
        evaluated("functions")

    alone = "is evaluated by docker buildx alone"
    mode = """the expression 'notequal("", VERSION) ? "release" : "debug"'"""
    assert [f"{problem.where}: {problem.what}" for problem in error.value.problems] == [
        f"docker-bake.hcl: target app: args: {mode} {alone}",
        f"docker-bake.hcl: target app: tags: the expression 'tag(\"app\")' {alone}",
        f"docker-bake.hcl: 'function' {alone}",
    ]
    assert {problem.hint for problem in error.value.problems} == {
        "install docker buildx, or port the JSON that docker buildx bake --print writes elsewhere"
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('target "a" {', "is no HCL"),
        ('target "a" { inherits = ["b"] }', "'b' is inherited from, but is no target"),
        ('target "a" { inherits = ["a"] }', "'a' is inherited from, but is no target before it"),
        ('target "a" { args = { X = Y } }', "the expression 'Y' is evaluated by docker buildx alone"),
    ],
)
def test_wrong_files(text: str, what: str) -> None:
    with pytest.raises(PipelineError, match=what):
        evaluate(load_blocks(text, "x.hcl"), "x.hcl", {})


def test_what_the_command_says_of_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no docker
    for name, text in {
        "bake.yaml": "",
        "empty.hcl": "",
        "no.json": "[]",
        "half.hcl": 'target "a" {',
        "there.hcl": 'target "a" {}',
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bytes.hcl").write_bytes(b"\xff")
    said = []
    for args in (
        "none.hcl",
        "bake.yaml",
        "bytes.hcl",
        "empty.hcl",
        "no.json",
        "half.hcl",
        "there.hcl",
        "there.hcl --variant minimal",
    ):
        code = main(["init", "--from-bake", *args.split()])
        shown = capsys.readouterr()
        said.append(f"$ imagetiers init --from-bake {args}\n{shown.out}{shown.err}exit code {code}\n")

    golden("\n".join(said), HERE / "golden" / "bake" / "errors.txt")
    assert not (tmp_path / "pipeline.yaml").exists()


def test_texts_and_their_holes() -> None:
    text = (
        'variable "V" { default = "v" }\ntarget "a" { args = { A = "x$${V}${V}", B = V, C = 3, D = true, E = null } }\n'
    )

    made = evaluate(load_blocks(text, "x.hcl"), "x.hcl", {})

    assert made["target"]["a"]["args"] == {"A": "x${V}v", "B": "v", "C": 3, "D": True, "E": None}


def test_agents_and_networks(tmp_path: Path) -> None:
    """Not in the files above: buildx prints agents only where there are some, and networks in newer versions alone."""
    inline = {"dockerfile-inline": "FROM debian:trixie-slim\nRUN --mount=type=ssh true\n"}
    text = json.dumps(
        {
            "target": {
                "old": {**inline, "ssh": ["default", "git=keys/id"], "secret": ["id=git,env=GIT"], "network": "none"},
                "new": {
                    **inline,
                    "network": "mine",
                    "ssh": [{"id": "default"}, {"id": "two", "paths": ["one", "other"]}],
                },
            }
        }
    )
    name = "docker-bake.json"

    ported = port(parse_print(json.loads(text), name), outline_of(text, name), tmp_path, name, "agents")
    write_new(tmp_path, ported.files)

    tiers = load_repository(Layout(tmp_path), None).pipeline.tiers
    assert tiers["old"].secrets == (Secret("default", ssh="default"), Secret("git", ssh="keys/id"))
    assert tiers["new"].secrets == (Secret("default", ssh="default"),)
    assert (tiers["old"].network, tiers["new"].network) == ("none", None)
    assert ported.left == (
        "target new: network: mine: only none and host can be said",
        "target new: ssh: two=one,other: an agent has one socket or key",
        "target old: secret: id=git,env=GIT: an SSH agent has that id, too; call one of them otherwise",
    )


def test_the_image_of_a_from_follows_the_variable_in_it(tmp_path: Path) -> None:
    """FROM python:${VERSION}: what another value makes of it is the base, too."""
    (tmp_path / "Dockerfile").write_text(
        "ARG VERSION=3.11\nARG MIRROR\nFROM ${MIRROR}/python:${VERSION}-slim AS app\nCOPY --from=tools:1 /x /x\n"
    )
    bake = """\
variable "VERSION" { default = "3.12" }
variable "MIRROR" { default = "docker.io/library" }
target "app" { args = { VERSION = VERSION, MIRROR = MIRROR } }
"""
    blocks = load_blocks(bake, "docker-bake.hcl")
    (tmp_path / "x").touch()

    def evaluated_with(env: Mapping[str, str]) -> dict[str, Any]:
        return evaluate(blocks, "docker-bake.hcl", env)

    outline = outline_of(bake, "docker-bake.hcl")
    parsed = parse_print(evaluated_with({}), "docker-bake.hcl")
    variables = find_variables(outline.variables, parsed, evaluated_with, "docker-bake.hcl")
    write_new(tmp_path, port(parsed, outline, tmp_path, "docker-bake.hcl", "app", variables).files)

    text = (tmp_path / "pipeline.yaml").read_text()
    assert "bases: {PYTHON: '$(var.MIRROR)/python:$(var.VERSION)-slim', TOOLS: 'tools:1'}" in text, text
    for given, base in (
        ({}, "docker.io/library/python:3.12-slim"),
        ({"VERSION": "3.13"}, "docker.io/library/python:3.13-slim"),
    ):
        tier = load_repository(Layout(tmp_path), None, given=given).pipeline.tiers["app"]
        assert tier.bases["PYTHON"] == base


@pytest.mark.engine
def test_a_matrix_without_cells_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """bake reads such a file, and has no target of that name."""
    (tmp_path / "Dockerfile").write_text("FROM debian:trixie-slim\n")
    empty = 'target "empty" {\n  name = "e-${x}"\n  matrix = { x = [] }\n}\n'
    (tmp_path / "docker-bake.hcl").write_text(empty + 'target "a" {}\ngroup "all" {\n  targets = ["a", "empty"]\n}\n')
    monkeypatch.chdir(tmp_path)

    assert main(["init", "--from-bake", "docker-bake.hcl"]) == 0

    said = capsys.readouterr().out
    assert "not ported: target empty: bake finds none by that name: its matrix has no cell" in said
    assert "not ported: group all: a target in it is none, or has no cell" in said
    assert list(load_repository(Layout(tmp_path), None).pipeline.tiers) == ["a"]
    (tmp_path / "docker-bake.hcl").write_text(empty)
    assert main(["init", "--from-bake", "docker-bake.hcl"]) == 3
    assert "docker-bake.hcl: no target of it can be a tier\n  hint: target empty" in capsys.readouterr().err
