"""ccache:ls and ccache:show, on what a real ccache has written and a push has stored."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from imagetiers.ccache.push import push
from imagetiers.planning.hit_rates import ClassHits
from imagetiers.state.records import Record
from imagetiers.stores.directory import DirectoryStore
from tests.conftest import HERE
from tests.engine.conftest import Checkout

SPACE = "trusted.main.tiny.builder.ccache-4.14"
OTHERS = "untrusted.pr-7.tiny.builder.ccache-4.14"
CCACHE = Path(sysconfig.get_path("scripts")) / "ccache"
SCHEMAS = HERE.parent / "schemas"
SCHEMA = json.loads((SCHEMAS / "ccache.schema.json").read_text())
STATS_SCHEMA = json.loads((SCHEMAS / "ccache-stats.schema.json").read_text())

pytestmark = [
    pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc"),
    pytest.mark.skipif(not CCACHE.exists(), reason="needs ccache"),
]


def compiled(folder: Path, headers: Sequence[str]) -> Path:
    """Compile a file once with each text of its header, through ccache; return ccache's directory."""
    folder.mkdir()
    (folder / "answer.c").write_text('#include "answer.h"\nint answer(void) { return ANSWER; }\n')
    env = {
        **os.environ,
        "CCACHE_DIR": str(folder / "cache"),
        "CCACHE_SLOPPINESS": "include_file_mtime,include_file_ctime",
    }
    for header in headers:
        (folder / "answer.h").write_text(header)
        command = [str(CCACHE), "gcc", "-c", "-MD", "answer.c", "-o", "answer.o"]
        subprocess.run(command, cwd=folder, env=env, check=True)
    return folder / "cache"


@pytest.fixture
def filled(offline: Checkout, tmp_path: Path) -> Checkout:
    """The tiny pipeline, with one source that was compiled twice in its cache, by a trusted build and a pull request."""
    cache = compiled(tmp_path / "project", ["#define ANSWER 41\n", "#define ANSWER 42\n"])
    store = cache_of(offline)
    push(store, SPACE, cache, step="pytorch-clean")
    push(store, OTHERS, cache, step="pytorch-clean")
    return offline


def cache_of(checkout: Checkout) -> DirectoryStore:
    return DirectoryStore(checkout.root / ".imagetiers" / "cache")


def listed(checkout: Checkout, *words: str) -> dict[str, Any]:
    run = checkout.doit("ccache:ls", "--json", "-", *words)
    assert run.code == 0, run.text
    document: dict[str, Any] = json.loads(run.out)
    jsonschema.validate(document, SCHEMA)
    return document


def test_namespaces_are_listed_with_who_writes_them(filled: Checkout) -> None:
    found = listed(filled)
    assert {one["name"]: one["whose"] for one in found["namespaces"]} == {SPACE: "this build", OTHERS: "others"}
    (own,) = (one["bytes"] for one in found["namespaces"] if one["name"] == SPACE)
    assert own == sum(blob.size for blob in cache_of(filled).list(f"ccache/{SPACE}/"))

    assert SPACE in filled.doit("ccache:ls").out
    assert listed(filled, "--limit", "1")["total"] == 2


@pytest.mark.parametrize("space", [SPACE, OTHERS])
def test_entries_of_a_namespace_in_each_order(filled: Checkout, space: str) -> None:
    found = listed(filled, space)
    assert (found["total"], len(found["entries"])) == (3, 3)
    assert sorted(entry["kind"] for entry in found["entries"]) == ["manifest", "result", "result"]
    assert all(entry["sets"] == [["pytorch-clean", "good"]] for entry in found["entries"])
    for order, falling in (("used", True), ("created", True), ("size", True), ("name", False)):
        values = [entry[order] for entry in listed(filled, "--sort", order, space)["entries"]]
        assert values == sorted(values, reverse=falling)

    shown = filled.doit("ccache:ls", "--limit", "2", space).out
    assert "and 1 more: --limit shows more at once (at most 1,000)" in shown
    assert "pytorch-clean good" in shown


def test_a_manifest_names_its_results_and_what_they_have_read(filled: Checkout) -> None:
    entries = listed(filled, SPACE)["entries"]
    manifest = next(entry for entry in entries if entry["kind"] == "manifest")
    results = {entry["name"] for entry in entries if entry["kind"] == "result"}

    out = filled.doit("ccache:show", manifest["name"][:8]).out

    assert f"{manifest['name']} of {SPACE}" in out
    assert "2 results, the newest first:" in out
    assert all(result in out for result in results)
    assert "not as in the one before: answer.h" in out
    assert "the newest has included" in out
    assert "in the working sets of: pytorch-clean good" in out
    assert f"pack {manifest['pack'][:16]}..." in out
    assert "with 3 live entries" in out
    assert "written by ccache 4." in out
    assert OTHERS not in out


def test_a_result_says_what_the_compiler_has_written(filled: Checkout) -> None:
    result = next(entry for entry in listed(filled, OTHERS)["entries"] if entry["kind"] == "result")
    out = filled.doit("ccache:show", "--namespace", OTHERS, result["name"]).out
    assert "file: object, " in out
    assert "file: dependencies, " in out
    assert f"result, {result['size']:.0f} B as a file" in out


def test_an_entry_that_is_here_says_where(filled: Checkout, tmp_path: Path) -> None:
    here = filled.root / ".imagetiers" / "ccache" / SPACE
    shutil.copytree(tmp_path / "project" / "cache", here)
    name = listed(filled, SPACE)["entries"][0]["name"]
    out = filled.doit("ccache:show", name).out
    assert f"  here: .imagetiers/ccache/{SPACE}/{name[0]}/{name[1]}/{name[2:]}" in out.replace(f"{filled.root}/", "")


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("ccache:ls", "a", "b"), 3, "doit ccache:ls: lists one namespace, and was given 2"),
        (("ccache:ls", "a", "--json", "-"), 1, "holds no namespace a"),
        (("ccache:ls", "--sort", "age"), 3, "'age' is no order"),
        (("ccache:ls", "--limit", "0"), 3, "0 is too small"),
        (("ccache:ls", "trusted.main.other.x"), 1, "holds no namespace trusted.main.other.x"),
        (("ccache:ls", "../x"), 1, "holds no namespace ../x"),
        (("ccache:show",), 3, "takes one entry, and was given 0"),
        (("ccache:show", "ab/../cd"), 3, "is no beginning of an entry's name"),
        (("ccache:show", "00000000zz"), 1, "lists 00000000zz"),
    ],
)
def test_what_is_asked_wrongly(filled: Checkout, words: tuple[str, ...], code: int, what: str) -> None:
    run = filled.doit(*words)
    assert run.code == code, run.text
    assert what in run.text
    assert "Traceback" not in run.text


def test_a_damaged_pack_is_said(filled: Checkout) -> None:
    name = listed(filled, SPACE)["entries"][0]["name"]
    store = cache_of(filled)
    for blob in list(store.list(f"ccache/{SPACE}/packs/")):
        data, generation = store.read(blob.name)
        store.write(blob.name, bytes(len(data)), if_generation=generation)
    run = filled.doit("ccache:show", name)
    assert run.code == 1
    assert "the entry is not the one that the index says" in run.err
    assert "Traceback" not in run.text


def test_an_empty_cache(offline: Checkout) -> None:
    run = offline.doit("ccache:ls")
    assert run.code == 0
    assert "holds no ccache of this pipeline yet" in run.out
    assert listed(offline)["namespaces"] == []


def measured(checkout: Checkout, *words: str) -> dict[str, Any]:
    run = checkout.doit("ccache:stats", "--json", "-", *words)
    assert run.code == 0, run.text
    document: dict[str, Any] = json.loads(run.out)
    jsonschema.validate(document, STATS_SCHEMA)
    return document


def test_an_empty_cache_has_no_statistics(offline: Checkout) -> None:
    found = measured(offline)
    assert (found["namespaces"], found["compiles"], found["writers"]) == ([], [], [])


def test_statistics_for_programs_are_those_of_the_picture(recorded: Checkout) -> None:
    found = measured(recorded)
    names = {space["name"]: space for space in found["namespaces"]}
    assert set(names) == {SPACE, OTHERS}
    own = names[SPACE]
    packs = sum(blob.size for blob in cache_of(recorded).list(f"ccache/{SPACE}/packs/"))
    assert (own["live"] + own["dead"], own["other"]) == (packs, 0)
    assert (own["results"], own["manifests"], own["packs"], own["lost"]) == (2, 1, 1, [])
    (run,) = own["runs"]
    assert (run["step"], run["outcome"], run["entries"]) == ("pytorch-clean", "good", 3)
    assert [state["entries"] for state in own["states"]][-1] == 3
    (compiled_tier,) = found["compiles"]
    assert compiled_tier["classes"] == [asdict(ClassHits("C and C++", 80, 8, 0, 75.0, 25.0))]
    assert [size["bytes"] for size in compiled_tier["sizes"]] == [2_000_000, 3_000_000]
    assert [rate["rate"] for rate in compiled_tier["rates"]] == [0.75, 0.75]
    (writer,) = found["writers"]
    assert (writer["trust"], writer["worker"], writer["compiles"], writer["pushed"]) == (
        "trusted",
        "one-of-ours",
        2,
        3_000_000,
    )

    alone = measured(recorded, "--namespace", OTHERS)
    assert [space["name"] for space in alone["namespaces"]] == [OTHERS]
    assert (alone["compiles"], alone["writers"]) == ([], [])


def test_statistics_of_a_damaged_namespace_are_an_error_and_no_file(filled: Checkout, tmp_path: Path) -> None:
    store = cache_of(filled)
    data, generation = store.read(f"ccache/{SPACE}/head")
    store.write(f"ccache/{SPACE}/head", bytes(len(data)), if_generation=generation)
    to = tmp_path / "stats.json"
    run = filled.doit("ccache:stats", "--json", str(to))
    assert (run.code, to.exists()) == (1, False), run.text
    assert "Traceback" not in run.text


@pytest.fixture
def recorded(filled: Checkout) -> Checkout:
    """The same with records of compiles: two of this variant's, one of another's."""
    planned = json.loads(filled.doit("plan", "--json", "-").out)["tiers"][0]
    hits = [ClassHits("C and C++", 80, 8, 0, 75.0, 25.0)]
    first = Record(
        *("compile", "pytorch-clean", planned["compile"]["key"], 1_795_000_000.0, 61.0, 80, 8, 75.0, 25.0),
        classes=hits,
        pipeline="tiny",
        worker="one-of-ours",
        pushed=2_000_000,
        cached=2_000_000,
    )
    second = replace(first, began=first.began + 90_000, pushed=1_000_000, cached=3_000_000)
    for record in (first, second, replace(second, began=second.began + 1, variant="shouting", worker="another")):
        name = f"records/pytorch-clean/compile/{int(record.began)}-{record.key[:12]}.json"
        cache_of(filled).write(name, json.dumps(asdict(record)).encode())
    return filled


def test_the_picture_is_of_the_cache_and_its_records(recorded: Checkout) -> None:
    out = recorded.doit("ccache:stats").out

    assert {SPACE, OTHERS} <= set(out.splitlines())
    assert len(re.findall(r"  state 1 \(push\), \d+ s old: 2 results, 1 manifests", out)) == 2
    assert "pytorch-clean  good" in out
    assert re.search(r"C and C\+\+ +88 +80 +75 s +25 s +█+░+", out)
    assert re.search(r"bytes: 2 MB \(.* ago\) ▆█ 3 MB", out)
    assert re.search(r"trusted +one-of-ours +2 +3 MB", out)
    assert "another" not in out
    assert "one-of-ours" not in recorded.doit("ccache:stats", "--namespace", SPACE).out
