"""`doit report`: from the cache alone, without an engine; numbers are the records', and a hostile cache writes no HTML."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from urllib.parse import quote

import pytest

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.hit_rates import ClassHits
from imagetiers.planning.make import make_plan
from imagetiers.state.records import Record
from imagetiers.state.registry import verdict_name
from imagetiers.stores.directory import DirectoryStore
from tests.conftest import HERE
from tests.engine.conftest import Checkout, make_checkout
from tests.gcs.harness import GcsServer
from tests.unit.report.test_page import HOSTILE, Page

NOW = 1_795_000_000.0


@pytest.fixture
def cache(offline: Checkout) -> DirectoryStore:
    return DirectoryStore(offline.root / ".imagetiers" / "cache")


@pytest.fixture
def records(offline: Checkout) -> list[Record]:
    """What a build of the first two tiers of this pipeline has left."""
    planned = {tier["tier"]: tier for tier in json.loads(offline.doit("plan", "--json", "-").out)["tiers"]}
    first, second = planned["pytorch-clean"], planned["arr-base"]
    hits = ClassHits("C and C++", 80, 8, 0, 75.0, 25.0)
    compiled = Record("compile", "pytorch-clean", first["compile"]["key"], NOW, 61.0, 80, 8, 75.0, 25.0, [hits])
    built = Record("image", "pytorch-clean", first["key"], NOW + 62, 10.0, image="sha256:" + "1" * 64, size=123_000_000)
    other = Record("image", "arr-base", second["key"], NOW + 75, 5.0, size=456_000_000)
    return [replace(record, pipeline="tiny") for record in (compiled, built, other)]


def keep(store: DirectoryStore, document: dict[str, object], name: str = "") -> None:
    path = f"records/{document['tier']}/{document['kind']}/{int(document['began'])}-{str(document['key'])[:12]}.json"  # type: ignore[call-overload]
    store.write(name or path, json.dumps(document).encode())


def words(checkout: Checkout) -> str:
    return " ".join(" ".join(Page((checkout.root / "imagetiers-report.html").read_text()).words).split())


def test_the_numbers_are_those_of_the_records(offline: Checkout, cache: DirectoryStore, records: list[Record]) -> None:
    for record in records:
        keep(cache, asdict(record))
    keep(cache, asdict(replace(records[0], began=NOW + 9, seconds=7.0, variant="shouting")))
    keep(cache, asdict(replace(records[2], key="0" * 64, began=NOW - 9000)))
    run = offline.doit("report")

    assert run.code == 0, run.text
    assert "imagetiers-report.html, of 3 tiers and 1 compiles" in run.out
    found = words(offline)
    for said in (
        "2 of 3 built",
        "Largest image 456 MB",
        "Last build 80 s",
        "80 of 88 calls were hits, 75 of 100 s saved (75.0 %)",
        "image:pytorch-clean after compile:pytorch-clean",
        "No verdict says what an image's layers weigh",
    ):
        assert said in found, said
    assert "shouting" not in found


def test_since_leaves_out_what_is_older(offline: Checkout, cache: DirectoryStore, records: list[Record]) -> None:
    for record in records:
        keep(cache, asdict(replace(record, began=record.began - 400 * 86_400)))
    run = offline.doit("report", "--since", "30d", "--out", "-")

    assert run.code == 0, run.text
    assert "0 of 3 built" in " ".join(" ".join(Page(run.out[: run.out.rindex("</html>") + 7]).words).split())
    for wrong in ("--since=soon", "--since=0d", "--out="):
        refused = offline.doit("report", wrong)
        assert (refused.code, "Traceback" in refused.text) == (3, False), refused.text


def test_what_is_no_record_says_nothing_and_what_one_holds_is_text(
    offline: Checkout, cache: DirectoryStore, records: list[Record]
) -> None:
    good = asdict(records[0])
    wrong: list[dict[str, object]] = [
        {"seconds": "long"},
        {"began": 1e300},
        {"hits": -1},
        {"phases": [1]},
        {"classes": [{}]},
        {"predicted": "soon"},
    ]
    for number, broken in enumerate(wrong):
        keep(cache, {**good, **broken}, f"records/pytorch-clean/compile/{number}-x.json")
    cache.write("records/pytorch-clean/compile/9-x.json", b"\xff no JSON")
    keep(cache, asdict(replace(records[0], key=HOSTILE, phases={HOSTILE: 60.0})))
    keep(cache, asdict(records[1]))
    plan = make_plan(load_repository(Layout(offline.root), None), date(2026, 11, 29))
    verdict = {"passed": True, "checks": [], "device_code": [], "layers": [[5, 0, "ADD"], [9, 3, HOSTILE]]}
    name = verdict_name(plan.tiers["pytorch-clean"], records[1].image, Trust())
    cache.write(name, json.dumps(verdict).encode())
    run = offline.doit("report")

    assert run.code == 0, run.text
    page = Page((offline.root / "imagetiers-report.html").read_text())
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert sum("<script>alert(1)</script>" in text for text in page.words) >= 2
    assert "2 layers, 3 B twice" in words(offline)


def test_where_nothing_can_be_written_it_says_so(offline: Checkout, tmp_path: Path) -> None:
    run = offline.doit("report", "--out", str(tmp_path / "nowhere" / "x.html"))

    assert run.code != 0
    assert "cannot be written" in run.err
    assert "Traceback" not in run.text


@pytest.fixture
def in_a_bucket(tmp_path: Path, gcs_server: GcsServer) -> Checkout:
    """The tiny pipeline with its cache in a bucket, where no engine is."""
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout", server=gcs_server)
    return replace(made, env={**made.env, "DOCKER_HOST": f"unix://{tmp_path}/no-daemon.sock"})


def test_published_it_is_a_page_at_one_link_in_the_bucket(in_a_bucket: Checkout, gcs_server: GcsServer) -> None:
    assert in_a_bucket.store is not None
    first = in_a_bucket.doit("report", "--publish")
    assert first.code == 0, first.text
    name = f"reports/{in_a_bucket.name}/index.html"
    bucket, _, prefix = in_a_bucket.store.url.removeprefix("gs://").partition("/")
    assert f"report: published: https://storage.cloud.google.com/{bucket}/{prefix}/{name}" in first.out

    path = f"/storage/v1/b/{bucket}/o/{quote(f'{prefix}/{name}', safe='')}"
    status, headers, body = gcs_server.request("GET", f"{path}?alt=media")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body == (in_a_bucket.root / "imagetiers-report.html").read_bytes()

    again = in_a_bucket.doit("report", "--publish")
    assert again.code == 0, again.text
    assert [blob.name for blob in in_a_bucket.store.list("reports/")] == [name]
    other = in_a_bucket.doit("variant=shouting", "report", "--publish")
    assert f"/reports/{in_a_bucket.name}/shouting/index.html" in other.out


def test_no_pull_request_publishes(in_a_bucket: Checkout) -> None:
    assert in_a_bucket.store is not None
    run = in_a_bucket.doit("trust=untrusted", "branch=pr-7", "report", "--publish")
    assert run.code == 1
    assert "this build is untrusted" in run.err
    assert not list(in_a_bucket.store.list("reports/"))
    assert not (in_a_bucket.root / "imagetiers-report.html").exists()


def test_a_cache_in_a_folder_keeps_it_there(offline: Checkout, cache: DirectoryStore) -> None:
    run = offline.doit("report", "--publish", "--out", "elsewhere.html")
    assert run.code == 0, run.text
    assert cache.read("reports/tiny/index.html")[0] == (offline.root / "elsewhere.html").read_bytes()
