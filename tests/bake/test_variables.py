"""Which values of a bake file come from its variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imagetiers.bake.evaluate import evaluate, load_blocks
from imagetiers.bake.model import parse_print
from imagetiers.bake.variables import Variables, find_variables, literal
from imagetiers.errors import PipelineError, Problem


def found(*names: str, default: Mapping[str, str], **attributes: object) -> Variables:
    """Return the variables of a bake file with these defaults and a target of these attributes."""
    file = {
        "variable": {name: {"default": value} for name, value in default.items()},
        "target": {"app": attributes},
    }
    blocks = load_blocks(json.dumps(file), "x.json")
    bake = parse_print(evaluate(blocks, "x.json", {}), "x.json")
    return find_variables(names, bake, lambda env: evaluate(blocks, "x.json", env), "x.json")


def test_where_they_went() -> None:
    variables = found(
        "A", "B", default={"A": "one", "B": "two"}, args={"X": "${A}-${B}"}, tags=["r/${A}:1", "r/x:${B}"]
    )
    marked = variables.targets["app"]

    assert variables.values == {"A": "one", "B": "two"}
    assert variables.refer("one-two", marked.args["X"]) == "$(var.A)-$(var.B)"
    assert [variables.refer(*each) for each in zip(("r/one:1", "r/x:two"), marked.tags, strict=True)] == [
        "r/$(var.A):1",
        "r/x:$(var.B)",
    ]
    assert variables.used_in("x $(var.B)") == {"B": "two"}


def test_what_is_more_than_a_part_of_a_value_is_none() -> None:
    def conditional(env: Mapping[str, str]) -> Mapping[str, Any]:
        mode = "release" if env.get("MODE", "release") == "release" else "debug"
        if "COUNT" in env:
            raise PipelineError(Problem("", "a number is required"))
        return {
            "target": {
                "app": {
                    "args": {"OPTIMIZE": mode, "UP": env.get("UP", "x").upper(), "MODE": env.get("MODE", "release")}
                }
            }
        }

    bake = parse_print(conditional({}), "x.hcl")

    variables = find_variables(("MODE", "COUNT", "UP", "variant"), bake, conditional, "x.hcl")

    marked = variables.targets["app"].args
    assert variables.values == {"MODE": "release"}
    assert variables.refer("release", marked["OPTIMIZE"]) == "release"
    assert variables.refer("release", marked["MODE"]) == "$(var.MODE)"


def test_what_may_be_in_no_variable() -> None:
    token = "npm_abcdefghijklmnopqrstuvwxyz0123456789"
    assert found("NPM_TOKEN", default={"NPM_TOKEN": token}, args={"T": "${NPM_TOKEN}"}).values == {}
    assert found("A", default={"A": "$(x)"}, args={"T": "${A}"}).values == {}


def test_texts_that_look_like_references() -> None:
    assert literal("$(var.x) $(env.y) $(other) $$(matrix.z)") == "$$(var.x) $$(env.y) $(other) $$$(matrix.z)"
