"""What `doit status` says of compiles, and that it can be said where only ASCII can."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from imagetiers.state.records import Record
from imagetiers.stores.directory import DirectoryStore
from tests.engine.conftest import Checkout


@pytest.fixture
def own(offline: Checkout) -> Record:
    """The record of a compile of this pipeline, variant and key: it took 61 seconds."""
    run = offline.doit("plan", "--json", "-")
    key = next(tier["compile"]["key"] for tier in json.loads(run.out)["tiers"] if tier["tier"] == "pytorch-clean")
    return Record("compile", "pytorch-clean", key, 1000.0, 61.0, hits=3, misses=1, pipeline="tiny")


def keep(checkout: Checkout, record: Record) -> None:
    name = f"records/{record.tier}/{record.kind}/{int(record.began)}-{record.key[:12]}.json"
    DirectoryStore(checkout.root / ".imagetiers" / "cache").write(name, json.dumps(asdict(record)).encode())


def test_numbers_are_of_this_pipeline_variant_and_key(offline: Checkout, own: Record) -> None:
    other = replace(own, seconds=7.0)
    keep(offline, replace(other, began=2000.0, pipeline="another"))
    keep(offline, replace(other, began=2001.0, variant="shouting"))
    keep(offline, replace(other, began=2002.0, key="0" * 64))
    keep(offline, replace(other, began=2003.0, key=own.key[:12] + "0" * 52))
    assert "compiled in" not in offline.doit("status").out

    keep(offline, own)
    out = " ".join(offline.doit("status").out.split())
    assert "compiled in 61 s, 75 % hits" in out
    assert "7 s" not in out


def test_where_only_ascii_can_be_said(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "args: {GREETING: hello}", "args: {GREETING: hello, Grüße…: x}")
    ascii_only: dict[str, Any] = {"PYTHONIOENCODING": "ascii"}

    wrong = offline.doit("check", **ascii_only)

    assert wrong.code == 3
    assert "Gr\\xfc\\xdfe\\u2026" in wrong.err
    assert "Traceback" not in wrong.text
    offline.edit("pipeline.yaml", ", Grüße…: x", "")
    offline.edit("pipeline.yaml", "name: tiny", "name: tiny\ncache: .imagetiers/grün")
    for verb in ("list", "check", "plan", "status", "explain"):
        run = offline.doit(verb, **ascii_only)
        assert (run.code, run.err) == (0, ""), run.text
    swept = offline.doit("cache:gc", "--dry-run", **ascii_only)
    assert (swept.code, swept.err) == (0, "")
    assert "/gr\\xfcn:" in swept.out


def test_how_gpus_run_what_is_compiled(offline: Checkout) -> None:
    offline.edit("pipeline.yaml", "name: tiny", "name: tiny\ngpus: [L4, H100, 8.0, 9.0a]".replace("8.0", '"8.0"'))
    unused = "nothing is compiled for L4, H100: no Dockerfile declares ARG TORCH_CUDA_ARCH_LIST"
    assert unused in offline.doit("check").out

    offline.edit("images/pytorch-clean/Dockerfile", "ARG GREETING", "ARG GREETING\nARG TORCH_CUDA_ARCH_LIST")
    check = offline.doit("check").out
    for line in (
        "L4     8.9  runs sm_80's code",
        "H100   9.0  native",
        "variant shouting: pytorch-clean: compiled for 8.0, 9.0a",
    ):
        assert line in check
    told = "pytorch-clean, compiled for 8.0, 9.0a: runs sm_80's code: L4; native: H100"
    for verb in (["status"], ["plan"], ["info", "compile:pytorch-clean"]):
        assert told in offline.doit(*verb).out
    (found,) = json.loads(offline.doit("plan", "--json", "-").out)["gpus"]
    assert [(gpu["gpu"], gpu["how"], gpu["target"]) for gpu in found["gpus"]] == [
        ("L4", "compatible", "8.0"),
        ("H100", "native", "9.0a"),
    ]

    offline.edit("pipeline.yaml", '"8.0", ', "")
    refused = offline.doit("status")
    assert refused.code == 3
    assert "gpus[0]: L4 (compute capability 8.9) cannot run what is compiled for 9.0a" in refused.err
