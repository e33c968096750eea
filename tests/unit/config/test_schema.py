"""The schema and the model are both written by hand; these tests hold them together, and the schema's words complete."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from imagetiers.config import model
from imagetiers.config.editor_schema import editor_schema_text, keep_marks
from imagetiers.config.gpus import Architecture
from imagetiers.config.layout import Layout
from imagetiers.config.loader import load_config
from imagetiers.config.quantities import parse_duration, parse_size
from imagetiers.config.schema import schema_text
from imagetiers.config.yamltree import parse_yaml
from imagetiers.rules.catalogue import RULES
from tests.conftest import HERE

REPO = HERE.parent
SCHEMA = json.loads(schema_text())
DEFS = SCHEMA["$defs"]

# keys of the YAML -> fields of the model, where the names differ or a key is spread out
SPREAD: dict[type[Any], dict[str, str | None]] = {
    model.Pipeline: {"version": None, "variants": None, "variables": None},
    model.Tier: {"extends": None, "matrix": None},
    model.CompileStep: {"cache": None},  # none: no ccache
}
DERIVED = {
    model.Pipeline: {"variant", "architectures", "cuda", "pins", "commits", "given"},
    model.Tier: {"name"},
    model.GitRef: set(),
    model.CompileStep: set(),
    model.CcacheSettings: set(),
    model.Budget: set(),
    model.CloudBuild: set(),
    model.TrustSettings: set(),
    model.TrustedKey: set(),
    model.Waiver: {"where", "cells"},
    model.ScanPolicy: set(),
    model.ScanClass: set(),
    model.SupplyChain: set(),
    model.SignedParents: {"where"},
}


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (model.Pipeline, SCHEMA),
        (model.Tier, DEFS["tier"]),
        (model.GitRef, DEFS["tier"]["properties"]["sources"]["additionalProperties"]),
        (model.CompileStep, DEFS["compile"]),
        (model.CcacheSettings, DEFS["compile"]["properties"]["ccache"]),
        (model.Budget, DEFS["tier"]["properties"]["budget"]),
        (model.CloudBuild, DEFS["cloudbuild"]),
        (model.TrustSettings, DEFS["trust"]),
        (model.TrustedKey, DEFS["trusted_key"]),
        (model.Waiver, DEFS["waiver"]),
        (model.ScanPolicy, SCHEMA["properties"]["scan"]),
        (model.ScanClass, DEFS["scan_class"]),
        (model.SupplyChain, DEFS["supply_chain"]),
        (model.SignedParents, DEFS["signed_parents"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_schema_and_model_have_the_same_names(kind: type[Any], schema: dict[str, Any]) -> None:
    keys = {SPREAD.get(kind, {}).get(key, key) for key in schema["properties"]} - {None}
    fields = {field.name for field in dataclasses.fields(kind)} - DERIVED[kind]

    assert keys == fields, f"{kind.__name__}: name it in schemas/pipeline.schema.json, model.py and config.py alike"


def described(schema: Any, path: str = "") -> Iterator[str]:
    if isinstance(schema, dict):
        for name, sub in schema.get("properties", {}).items():
            reference = sub.get("$ref", "").removeprefix("#/$defs/")
            if not sub.get("description") and not DEFS.get(reference, {}).get("description"):
                yield f"{path}.{name}"
        for key, value in schema.items():
            yield from described(value, f"{path}.{key}")


def test_every_key_has_a_description() -> None:
    assert list(described(SCHEMA)) == []


def closed(schema: Any, path: str = "") -> Iterator[str]:
    if isinstance(schema, dict):
        chosen = "propertyNames" in schema  # names of one's own, beside those that are known
        if "properties" in schema and schema.get("additionalProperties") is not False and not chosen:
            yield path
        for key, value in schema.items():
            yield from closed(value, f"{path}.{key}")


def test_every_mapping_with_known_keys_refuses_others() -> None:
    assert list(closed(SCHEMA)) == []


def test_the_package_ships_the_schema_of_the_repository() -> None:
    assert schema_text() == (REPO / "schemas" / "pipeline.schema.json").read_bytes()


def test_the_schema_lists_the_rules() -> None:
    assert DEFS["waiver"]["properties"]["rule"]["enum"] == list(RULES)


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_repositorys_pipeline_is_valid_for_any_other_validator_too() -> None:
    Draft202012Validator(SCHEMA).validate(yaml.safe_load((REPO / "pipeline.yaml").read_text()))


def test_cloudbuilds_defaults_agree() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(model.CloudBuild)}
    for key, schema in DEFS["cloudbuild"]["properties"].items():
        if "default" in schema:
            value = schema["default"]
            assert defaults[key] == (parse_duration(value) if "duration" in schema.get("$ref", "") else value), key


def test_enums_agree() -> None:
    assert DEFS["tier"]["properties"]["refresh"]["enum"] == [value.value for value in model.Refresh]


def test_model_values_are_frozen() -> None:
    for name in model.__all__:
        kind = getattr(model, name)
        if dataclasses.is_dataclass(kind):
            assert getattr(kind, "__dataclass_params__").frozen, name  # noqa: B009  mypy does not know it


def test_no_field_is_a_bare_dict() -> None:
    for name in model.__all__:
        kind = getattr(model, name)
        if dataclasses.is_dataclass(kind):
            for field, hint in typing.get_type_hints(kind, localns={"Architecture": Architecture}).items():
                options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
                assert dict not in {typing.get_origin(option) or option for option in options}, f"{name}.{field}"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5", 5),
        ("5B", 5),
        ("1K", 1024),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("25G", 25 << 30),
        ("6GB", 6_000_000_000),
        ("1.5M", 1572864),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_schema_that_passed_is_remembered_for_these_very_contents(tiny: Layout) -> None:
    config = load_config(tiny, None)
    assert not tiny.work.exists(), "reading writes nothing"
    keep_marks(config.marks, tiny.editor_schema)
    first = sorted((tiny.state / "schema-passed").iterdir())
    keep_marks(load_config(tiny, None).marks, tiny.editor_schema)
    second = sorted((tiny.state / "schema-passed").iterdir())
    tiny.pipeline.write_text(tiny.pipeline.read_text().replace("name: tiny", "nmae: tiny"))

    assert first
    assert second == first
    assert tiny.editor_schema.read_bytes() == editor_schema_text()
    assert load_config(tiny, None).problems


def test_editors_take_references_where_they_are_filled_in_and_nothing_else() -> None:
    def wrong(pipeline: str) -> list[str]:
        given = parse_yaml(f"version: 1\nname: x\n{pipeline}".encode(), "pipeline.yaml").plain()
        return sorted(
            error.json_path for error in Draft202012Validator(json.loads(editor_schema_text())).iter_errors(given)
        )

    Draft202012Validator.check_schema(json.loads(editor_schema_text()))
    tier = "tiers: {t: {bases: {B: python:$(matrix.python)}, tag: $(var.tag), budget: {size: $(var.size)}, refresh: $(var.x)"
    tier += ", compile: {stage: s, run: r, share_layers: $(var.share), ccache: {min_hit_rate: $(var.rate)}}"
    assert wrong(f"{tier}}}}}") == []
    assert wrong(f"{tier}, verify: {{python: {{pip_check: yes}}, timeout: long}}}}}}") == [
        "$.tiers.t.verify.python.pip_check",
        "$.tiers.t.verify.timeout",
    ]
    assert wrong(f"{tier}, secrets: {{a: {{env: $(var.x)}}}}}}}}") == ["$.tiers.t.secrets.a.env"]
    assert wrong("trust: {require: $(var.x)}\ntiers: {t: {parent: p}}") == ["$.trust.require"]


def test_the_lock_of_the_repository_is_read() -> None:
    assert Path(REPO / "pipeline.lock.yaml").exists()
    assert load_config(Layout(REPO), "quickstart").problems == ()
