"""`imagetiers init --from-bake FILE`: a bake file as a pipeline."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from imagetiers.adapters.process import run
from imagetiers.bake.evaluate import Outline, evaluate, load_blocks, outline_of
from imagetiers.bake.model import parse_print
from imagetiers.bake.port import port
from imagetiers.bake.variables import find_variables
from imagetiers.cli.texts import said
from imagetiers.config.layout import Layout
from imagetiers.errors import PipelineError, Problem, os_problem
from imagetiers.inputs.repository import load_repository
from imagetiers.scaffold.files import write_new
from imagetiers.scaffold.variants import common_files, pipeline_name

__all__ = ["init_from_bake"]

_NO_TARGET = "failed to find target"
_NO_CELL = "bake finds none by that name: its matrix has no cell, or it names what is not there"
_SECONDS = 60.0  # bake may fetch a remote definition
_NOTHING: Mapping[str, str] = MappingProxyType({})


def init_from_bake(root: Path, file: str) -> list[str]:
    """Write the pipeline of a bake file, and return what is said: files, what was not ported, what is still wrong.

    Raises PipelineError when the bake file is wrong, OutputError when a file is there already.
    """
    try:
        text = (root / file).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise PipelineError(Problem(file, "is no UTF-8")) from None
    except OSError as error:
        raise PipelineError(Problem(file, os_problem(error).what)) from None
    if not file.endswith((".hcl", ".json")):
        raise PipelineError(
            Problem(
                file,
                "is neither .hcl nor .json",
                f"docker buildx bake --print --file {file} >bake.json, then --from-bake bake.json",
            )
        )
    outline = outline_of(text, file)
    if not outline.targets:
        raise PipelineError(Problem(file, "has no target", 'target "app" { ... }'))
    alone = not _has_buildx()
    left: tuple[str, ...] = ()
    if not alone:
        outline, left = _with_cells(root, file, outline)
    printed = None if alone else _printed(root, file, outline)

    def evaluated(env: Mapping[str, str]) -> Mapping[str, Any]:
        if alone:
            return evaluate(load_blocks(text, file), file, os.environ | env)
        return _bake(root, file, outline.targets, env)

    bake = parse_print(evaluated({}) if printed is None else printed, file)
    variables = find_variables(outline.variables, bake, evaluated, file)
    ported = port(bake, outline, root, file, pipeline_name(root.name), variables)
    written = write_new(root, sorted((*ported.files, *common_files()), key=lambda each: each.path))
    lines = [*said(written), *(f"changed: {line}" for line in ported.changed)]
    lines += [f"not ported: {line}" for line in (*left, *ported.left)]
    lines += [f"to be mended: {line}" for problem in _problems(root) for line in str(problem).splitlines()]
    return [*lines, "next: doit check, then doit plan"]


def _has_buildx() -> bool:
    try:
        return run(("docker", "buildx", "version")) == 0
    except FileNotFoundError:
        return False


def _with_cells(root: Path, file: str, outline: Outline) -> tuple[Outline, tuple[str, ...]]:
    """Leave out targets whose matrix has no cell, and groups that name one: bake has none of that name, and says so by name."""

    def known(*names: str) -> bool:
        try:
            _bake(root, file, names)
        except PipelineError as error:
            if _NO_TARGET not in error.problems[0].what:
                raise
            return False
        return True

    if known(*outline.targets, *outline.groups):
        return outline, ()
    kept = {name for name in (*outline.targets, *outline.groups) if known(name)}
    targets, groups = (tuple(name for name in names if name in kept) for names in (outline.targets, outline.groups))
    left = [f"target {name}: {_NO_CELL}" for name in outline.targets if name not in kept]
    left += [f"group {name}: a target in it is none, or has no cell" for name in outline.groups if name not in kept]
    if not targets:
        raise PipelineError(Problem(file, "no target of it can be a tier", "; ".join(left)))
    return replace(outline, targets=targets, groups=groups), tuple(left)


def _printed(root: Path, file: str, outline: Outline) -> dict[str, Any]:
    """Return what docker buildx prints of the file. Raises PipelineError when it refuses the file."""
    printed = _bake(root, file, outline.targets)
    # Each group by itself: bake calls `default` whatever it was asked for.
    found = {name: _bake(root, file, [name])["group"][name] for name in outline.groups}
    found |= {name: group for name, group in printed.get("group", {}).items() if name in outline.targets}  # a matrix
    return {"group": found, "target": printed["target"]}


def _bake(root: Path, file: str, names: Sequence[str], env: Mapping[str, str] = _NOTHING) -> dict[str, Any]:
    lines: list[str] = []
    argv = ("docker", "buildx", "bake", "--print", "--file", str(root / file), *names)
    code = run(argv, env=env, on_line=lines.append, seconds=_SECONDS)
    if code != 0 or "{" not in lines:
        what = next((line for line in reversed(lines) if line.strip()), f"exit code {code}")
        raise PipelineError(
            Problem(file, f"docker buildx refuses it: {what}", "correct it: bake itself cannot read it")
        )
    printed: dict[str, Any] = json.loads("\n".join(lines[lines.index("{") :]))
    return printed


def _problems(root: Path) -> Sequence[Problem]:
    try:
        load_repository(Layout(root), None)
    except PipelineError as error:
        return error.problems
    return ()
