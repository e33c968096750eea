"""What is written of the builds so far, for people and for Prometheus: from records and verdicts that builds have kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imagetiers.ccache.push import push
from imagetiers.errors import StoreError
from imagetiers.operations.ccache_ls import Listing, list_cache
from imagetiers.operations.ccache_show import show_entry
from imagetiers.operations.check import check_dockerfiles, show_check
from imagetiers.operations.clean import clean_compile, clean_image, clean_verdicts
from imagetiers.operations.metrics import show_metrics
from imagetiers.operations.report import look_back, write_report
from imagetiers.operations.trust import first_key, show
from imagetiers.planning.hit_rates import ClassHits
from imagetiers.state.records import Record, keep
from tests.conftest import HERE
from tests.registry.harness import Builder, builder
from tests.tasks.test_ccache_looking import compiled

IMAGE = "sha256:" + "1" * 64


@pytest.fixture
def machine(tmp_path: Path) -> Builder:
    """A machine whose cache has two compiles of the first tier, and an image of it and of the next one."""
    root = tmp_path / "machine"
    shutil.copytree(HERE / "repos" / "tiny", root)
    made = builder(root, "localhost:1", tmp_path / "cache")
    plan, session = made.plan, made.session
    own = Record("image", "", "", 700.0, 10.0, pipeline=plan.pipeline.name)
    first, second = plan.tiers["pytorch-clean"], plan.tiers["arr-base"]
    assert first.compile is not None
    hits = [ClassHits("C and C++", 80, 8, 0, 75.0, 25.0)]
    warm = Record("compile", first.name, first.compile.key, 600.0, 61.0, 80, 8, 75.0, 25.0, hits, pipeline=own.pipeline)
    none = [ClassHits("C and C++", 0, 88, 0, 0.0, 100.0)]
    cold = replace(warm, began=100.0, seconds=300.0, hits=0, misses=88, saved_seconds=0.0, classes=none)
    for record in (cold, warm):
        keep(session, first.compile.key_document, record)
    keep(session, first.key_document, replace(own, tier=first.name, key=first.key, image=IMAGE, size=123_000_000))
    keep(session, second.key_document, replace(own, tier=second.name, key=second.key, began=720.0, size=456_000_000))
    return made


def test_the_report_is_of_the_records(machine: Builder, tmp_path: Path) -> None:
    page = look_back(machine.session, since=None)

    assert [(run.seconds, run.total.hits, run.total.misses) for run in page.compiles] == [
        (61.0, 80, 8),
        (300.0, 0, 88),
    ]
    assert [tier.size for tier in page.tiers] == [123_000_000, 456_000_000, None]
    assert len(look_back(machine.session, since=500.0).compiles) == 1

    write_report(machine.session, to=tmp_path / "report.html", since=None)
    assert "of 3 tiers and 2 compiles" in machine.said
    assert "456 MB" in (tmp_path / "report.html").read_text()


def test_the_metrics_are_of_the_newest_records(machine: Builder, tmp_path: Path) -> None:
    show_metrics(machine.session, to=str(tmp_path / "metrics"))

    found = {
        (sample.name, sample.labels.get("kind"), sample.labels.get("tier")): sample.value
        for family in text_string_to_metric_families((tmp_path / "metrics").read_text())
        for sample in family.samples
    }
    assert found["imagetiers_build_seconds", "compile", "pytorch-clean"] == 61
    assert found["imagetiers_build_seconds", "image", "arr-base"] == 10
    assert found["imagetiers_image_bytes", None, "arr-base"] == 456e6


def test_the_compiler_cache_is_listed_and_shown(machine: Builder, tmp_path: Path) -> None:
    entries = compiled(tmp_path / "project", ["#define ANSWER 41\n", "#define ANSWER 42\n"])
    push(machine.session.services.store, "trusted.main.tiny.builder.ccache-4.14", entries, step="pytorch-clean")

    list_cache(machine.session, "", Listing())
    list_cache(machine.session, "trusted.main.tiny.builder.ccache-4.14", Listing(to=str(tmp_path / "entries.json")))
    document = json.loads((tmp_path / "entries.json").read_text())
    for entry in document["entries"]:
        show_entry(machine.session, entry["name"], namespace="", every_file=True)

    assert sorted(entry["kind"] for entry in document["entries"]) == ["manifest", "result", "result"]
    assert all(entry["name"] in machine.said for entry in document["entries"])
    assert "answer.h" in machine.said
    with pytest.raises(StoreError, match="lists"):
        show_entry(machine.session, "f" * 40, namespace="", every_file=False)


def test_what_is_right_is_counted_and_a_key_is_made_and_shown(machine: Builder, tmp_path: Path) -> None:
    checked = check_dockerfiles(machine.session, [machine.plan])
    show_check([machine.plan], checked, machine.session.services.console)
    first_key(machine.session, out=str(tmp_path / "key.pem"), name="main")
    show(machine.session)

    assert not checked.weighed.errors
    assert "BEGIN PRIVATE KEY" in (tmp_path / "key.pem").read_text()
    assert "IMAGETIERS_SIGNING_KEY" in machine.said


def test_what_was_made_is_taken_back(machine: Builder) -> None:
    tier = machine.plan.tiers["pytorch-clean"]
    for clean in (clean_image, clean_compile, clean_verdicts):
        clean(machine.session, tier, dry_run=True)

    assert machine.said.count("nothing to remove") == 3
