"""Whatever stands in the files: an error with a place and a cure for each mistake, one for a value, and never a traceback."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from imagetiers.config.layout import Layout
from imagetiers.errors import PipelineError, Problem
from imagetiers.inputs.repository import load_repository

# Every key that there is.
FULL = yaml.safe_load("""
version: 1
name: tiny
registry: localhost:5000/a
channels: localhost:5000/c
cache: gs://bucket/p
platform: linux/amd64
gpus: [A100]
tiers:
  pytorch-clean:
    tag: v1
    target: runtime
    bases: {BASE: "debian:trixie-slim"}
    args: {GREETING: hello}
    sources: {REF: {git: "https://example.org/x", ref: v1}}
    compile:
      stage: builder
      run: [sh, /src/make-wheel]
      wheels_stage: wheels
      job_memory: 1G
      ccache: {max_size: 100M, min_hit_rate: 0.5, checkpoint_minutes: 5, strict: true}
    verify:
      {timeout: 5m, commands: [a, {run: [a, b], exit_code: 1, output: [x], matches: "^x"}], user: non-root, workdir: /a,
       python: {imports: {a: "1"}, versions: {b: "2"}, pip_check: true}, entrypoint: [a], cmd: [], env: {A: b}, labels: {a: b},
       files: {/a: present, /b: {kind: file, mode: "0644", owner: a, group: "1", contains: x, target: /c}}, ports: [80/tcp],
       healthcheck: [CMD, a], libraries: {ignore: [a]}, device_code: {others: [a]}, params: {x: [1]},
       forbid: {programs: [a], packages: [b], paths: [/c], compilers: true, caches: true, git: true, credentials: true,
         setuid: true, world_writable: true, allow: [/d]}}
    budget: {size: 1G}
    refresh: weekly
    secrets: {token: {env: TOKEN}, other: {file: f}}
  arr-base: {parent: pytorch-clean}
  arr-training: {parent: arr-base}
cloudbuild:
  {builder: b, timeout: 5h, compile_timeout: 4h, machine: E2_HIGHCPU_8, disk: 100, usd_per_hour: 1.5, processors: 8,
   service_account: a@b, pr_service_account: a@b, logs: gs://x, queue_ttl: 1h, substitutions: {_REGION: x}}
variants:
  v: {gpus: [T4], tiers: {arr-base: {args: {X: "1"}}}}
""")
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    "",
    "a\n",
    "x" * 300,
    "${A}",
    "..",
    [],
    [None],
    [[]],
    {},
    {"": 1},
    {"a": {"a": {}}},
)
ONE_A_KEY = (" is missing", "needs ")  # a mapping may lack several


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from paths(below, (*path, key))


def with_value(path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    tree = copy.deepcopy(FULL)
    node = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def problems_of(layout: Layout) -> tuple[Problem, ...]:
    try:
        load_repository(layout, None)
    except PipelineError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: json.dumps(odd)[:20])
def test_an_odd_value_at_every_place(odd: Any, tiny: Layout) -> None:
    """Each value at a third of the places: all of them together take minutes, and each place has seen six of them."""
    for path in list(paths(FULL))[ODD.index(odd) % 3 :: 3]:
        tiny.pipeline.write_text(json.dumps(with_value(path, odd), indent=1))
        said: dict[str, str] = {}
        for problem in problems_of(tiny):
            assert re.match(r"pipeline\.yaml:\d+:\d+|images/", problem.where), (path, problem)
            assert problem.hint, (path, problem)
            assert len(problem.what) <= 250, (path, problem)
            if problem.where.startswith("pipeline.yaml") and not any(words in problem.what for words in ONE_A_KEY):
                assert problem.where not in said, (path, problem, said[problem.where])
                said[problem.where] = problem.what


WHERE = r"(pipeline\.(lock\.)?yaml|images/[\w/.-]+?)(:\d+(:\d+)?(: .*)?)?$"
FILES = ("pipeline.yaml", "pipeline.lock.yaml", "images/arr-base/.image-manifest", "images/pytorch-clean/Dockerfile")
PIECES = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b'"',
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b":",
    b"#",
    b"*",
    b"!",
    b"\\",
    b"$",
    b"<<",
    b"\xe2\x80\xa8",
)


@pytest.mark.parametrize("name", FILES)
def test_damaged_bytes(name: str, tiny: Layout) -> None:
    """Not every damage is a mistake; but every mistake has a file and a text."""
    path = tiny.root / name
    if not path.exists():
        path.write_text(f"images:\n  debian:trixie-slim: sha256:{'a' * 64}\ngit: {{}}\n")
    good = path.read_bytes()
    chance = random.Random(name)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.choice((0, 0, 1, 5))] = chance.choice(PIECES)
        path.write_bytes(data)
        for problem in problems_of(tiny):
            assert re.match(WHERE, problem.where), (bytes(data), problem)
