"""How long thousands of tiers take that are all there, beside a doit with as many tasks of the same shape.

    python -m benchmarks.many [--tiers 1000] [--shapes tree,chain,fans,diamonds] [--runs 5] [--to FILE]

Needs no Docker: a daemon of the tests says that the images are there. Each tier has ten files. The doit beside has the same
groups and tasks, with the same dependencies, and functions that say at once that there is nothing to do: what is left is doit's
own cost of a task, which both pay. Where they are installed, `docker buildx bake --print` is asked what as many targets are,
and a Turborepo (`turbo` on the PATH: `npm install turbo`) what it would do for as many packages of the same files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pairs import Command, measure
from benchmarks.session import ROOT, Measured, recording
from tests.many.daemon import daemon
from tests.many.repository import FILES, SHAPES, images_json, make_repository, mark_verified, remember_plan

BAKE_MOST = 2000  # targets; of 10,000 it takes minutes
BESIDE, OURS, BAKE, TURBO = "doit with as many tasks", "doit", "docker buildx bake --print", "turbo run build --dry"

DODO = '''\
"""As many tasks as imagetiers makes of {tiers} tiers, each of which has nothing to do."""

PARENTS = {parents}


def up_to_date(task, values):
    return True


def made(verb, number, deps, setup):
    return {{
        "name": f"t{{number:05}}", "doc": verb, "title": lambda task: task.name, "actions": [print], "uptodate": [up_to_date],
        "task_dep": deps, "setup": setup, "io": {{"capture": False}}, "meta": {{}},
        "params": [{{"name": "rebuild", "long": "rebuild", "type": bool, "default": False, "help": "do it anyhow"}}],
    }}


def tasks(verb, deps, setup):
    yield {{"name": None, "doc": verb, "uptodate": [up_to_date]}}
    for number, parent in enumerate(PARENTS):
        yield made(verb, number, deps(number, parent), setup(number, parent))


def none(number, parent):
    return []


def above(verb):
    return lambda number, parent: [] if parent is None else [f"{{verb}}:t{{parent:05}}"]


def own(verb):
    return lambda number, parent: [f"{{verb}}:t{{number:05}}"]


DOIT_CONFIG = {{"default_tasks": ["image", "verify"], "dep_file": "doit.db"}}


def task_image():
    return tasks("image", none, above("image"))


def task_verify():
    return tasks("verify", none, own("image"))


def task_pull():
    return tasks("pull", none, none)


def task_push():
    return tasks("push", above("push"), own("verify"))
'''


def bake_file(folder: Path, tiers: int, shape: str) -> None:
    """Write a bake file with a target for each tier."""
    targets: dict[str, dict[str, object]] = {}
    for number in range(tiers):
        parent = SHAPES[shape](number)
        contexts = {} if parent is None else {"parent": f"target:t{parent:05}"}
        targets[f"t{number:05}"] = {"context": f"images/t{number:05}", "contexts": contexts}
    file = {"group": {"default": {"targets": list(targets)}}, "target": targets}
    (folder / "docker-bake.json").write_text(json.dumps(file))


def packages(folder: Path, tiers: int, shape: str) -> None:
    """Write a package of npm for each tier, with the same ten files."""
    packages: dict[str, object] = {"": {"name": "many", "workspaces": ["images/*"]}}
    for number in range(tiers):
        name, parent = f"t{number:05}", SHAPES[shape](number)
        data = folder / "images" / name / "data"
        data.mkdir(parents=True)
        for file in range(FILES):
            (data / str(file)).write_text(f"file {file} of tier {number}\n" * 20)
        needs = {} if parent is None else {f"t{parent:05}": "*"}
        package = {"name": name, "version": "1.0.0", "dependencies": needs}
        (data.parent / "package.json").write_text(json.dumps(package | {"scripts": {"build": "true"}}))
        packages |= {f"images/{name}": package, f"node_modules/{name}": {"resolved": f"images/{name}", "link": True}}
    root = {"name": "many", "private": True, "packageManager": "npm@10.0.0", "workspaces": ["images/*"]}
    (folder / "package.json").write_text(json.dumps(root))
    (folder / "turbo.json").write_text(json.dumps({"tasks": {"build": {"dependsOn": ["^build"]}}}))
    lock = {"name": "many", "lockfileVersion": 3, "requires": True, "packages": packages}
    (folder / "package-lock.json").write_text(json.dumps(lock))
    subprocess.run(["git", "init", "-q", str(folder)], check=True)  # by which Turborepo finds what a package holds


def compare(folder: Path, tiers: int, shape: str, runs: int) -> list[Measured]:
    """Measure one shape."""
    layout = make_repository(folder / "tiers", tiers, shape)
    alike = folder / "alike"
    alike.mkdir()
    (alike / "dodo.py").write_text(DODO.format(tiers=tiers, parents=[SHAPES[shape](number) for number in range(tiers)]))
    plan = remember_plan(layout)
    mark_verified(layout, plan)
    path = folder / "daemon.sock"
    with daemon(path, images_json(plan)):
        del plan
        env = {"PYTHONPATH": str(ROOT), "DOCKER_HOST": f"unix://{path}"}
        doit = (sys.executable, "-m", "doit")
        ours = {OURS: (), **{f"doit {verb}": (verb,) for verb in ("list", "check", "plan")}}
        commands = [
            Command(BESIDE, doit, alike, env),
            *(Command(name, (*doit, *words), layout.root, env) for name, words in ours.items()),
        ]
        if shutil.which("docker") and tiers <= BAKE_MOST:
            bake_file(layout.root, tiers, shape)
            commands.append(Command(BAKE, tuple(BAKE.split()), layout.root))
            remember_plan(layout)
        if shutil.which("turbo") and tiers <= BAKE_MOST:
            packages(folder / "turbo", tiers, shape)
            env = {"TURBO_TELEMETRY_DISABLED": "1"}
            commands.append(Command(TURBO, ("turbo", "run", "build", "--dry=json"), folder / "turbo", env))
        time.sleep(2.5)  # nothing is remembered of what is younger than two seconds
        return measure(f"{tiers:,} tiers, {shape}", commands, runs)


def main() -> None:
    """Measure each shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tiers", type=int, default=1000)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--to", type=Path)
    given = parser.parse_args()
    with recording(f"many_{given.tiers}", given.to) as measured:
        for shape in given.shapes.split(","):
            with tempfile.TemporaryDirectory() as temporary:
                measured.extend(compare(Path(temporary), given.tiers, shape, given.runs))


if __name__ == "__main__":
    main()
