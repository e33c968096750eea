"""Whatever is ever written into a cache has somebody who removes it again: nothing grows without bound, nothing needed goes."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

import imagetiers
from imagetiers.ccache import namespace
from imagetiers.ccache.prune import PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.config.model import BuildFolderSettings, Trust
from imagetiers.operations.cache_gc import GcOptions
from imagetiers.operations.ccache import prune_report
from imagetiers.operations.report import report_name
from imagetiers.planning.forecast import READ
from imagetiers.planning.observed import Absent, Unknown
from imagetiers.planning.plan import CompilePlan
from imagetiers.state.aggregates import AGGREGATE
from imagetiers.state.build_folders import publish
from tests.ccache.synthetic import entries_in, make_directory
from tests.operations.test_gc import DAY, UNTRUSTED, Cache

PACKAGE = Path(imagetiers.__file__).parent
MONTH = PruneOptions(max_age=30 * DAY)

# What is written, by whom, and who removes it: below untrusted/BRANCH/ it is the same.
CCACHE = {"head", "clock", "packs/NAME", "index/NAME", "sets/NAME", "notes/NAME"}  # ccache:prune
OTHERS = {  # cache:gc
    "wheels/KEY.tar",
    "made/KEY.tar",
    "inputs/KEY.json",
    "keys/KEY.json",
    "records/TIER/KIND/NAME.json",
    "verdicts/IMAGE/CHECK.json",
    "published/REFERENCE.json",
    "objects/LINE.json",
    "folders/LINE.json",
    "folders/LINE/KEY.zst",
}
FOR_EVER = {  # one each: of a cache or a branch, of a tier, and of a variant
    "gc/marks.json",
    f"records/TIER/KIND/{AGGREGATE}",
    "reports/PIPELINE/index.html",
}
REPORT = report_name("p", "")
WRITERS = {
    "ccache/namespace.py",
    "ccache/prune.py",
    "operations/cache_gc.py",
    "operations/push.py",
    "operations/report.py",
    "operations/verify.py",
    "state/build_folders.py",
    "state/failures.py",  # verdicts/IMAGE/CHECK.failed.json, which goes as verdicts do
    "state/made_files.py",
    "state/objects.py",
    "state/records.py",
    "state/scans.py",  # verdicts/IMAGE/scan.json, which goes as verdicts do
    "state/wheels.py",
}
AROUND = {"signing/store.py", "stores/counting.py", "stores/limited.py", "stores/timeout.py"}


def kind_of(name: str) -> str:
    """Return what an object is, as the tables above call it."""
    name = re.sub(r"^untrusted/[^/]+/", "", name)
    parts = name.split("/")
    if parts[0] == "ccache":
        return parts[2] if len(parts) == 3 else f"{parts[2]}/NAME"
    if parts[0] == "records":
        return f"records/TIER/KIND/{AGGREGATE if parts[3] == AGGREGATE else 'NAME.json'}"
    if parts[0] == "verdicts":
        return "verdicts/IMAGE/CHECK.json"
    if parts[0] in {"objects", "folders"}:
        return f"{parts[0]}/LINE.json" if len(parts) == 2 else f"{parts[0]}/LINE/KEY.zst"
    if parts[0] in {"published", "reports"}:
        return "published/REFERENCE.json" if parts[0] == "published" else "reports/PIPELINE/index.html"
    return re.sub(r"[0-9a-f]{64}", "KEY", name)


def test_who_writes_is_known() -> None:
    """A new writer is looked at: what does it write, and who removes that?"""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            writes = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if not writes or node.func.attr not in {"write", "write_file"}:  # type: ignore[attr-defined]
                continue
            if "store" in ast.unparse(node.func.value).lower():  # type: ignore[attr-defined]
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found - AROUND == WRITERS


@pytest.fixture
def lived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache in which trusted builds and those of a branch have done everything for a while."""
    monkeypatch.setattr(namespace, "INLINE_MAX", 0)  # so that sets and notes are objects of their own
    cache = Cache(tmp_path)
    for number in range(3):
        for trust, level in ((Trust(), "trusted.main"), (UNTRUSTED, "untrusted.pr-7")):
            cache.build(f"{level}-{number}", trust=trust)
            folder = tmp_path / level
            make_directory(folder, 10, seed=number)
            keep_build_folder(cache, trust, number, tmp_path)
            key = hashlib.sha256(f"{level} {number}".encode()).hexdigest()
            cache.store.write(f"{trust.prefix}made/{key}.tar", b"files in place of an image")
            push(cache.store, f"{level}.p.ccache-4.14", folder, step="torch")
            prune(cache.store, f"{level}.p.ccache-4.14", PruneOptions(keep_history=0))
            cache.now += DAY
    for number in range(READ + 5):  # more records than a forecast reads
        cache.build(f"trusted.main-{number % 3}", fresh=False)
        cache.now += 60.0
    cache.publish("trusted.main-0")
    cache.store.write(REPORT, b"<!DOCTYPE html>")
    cache.registry = Unknown("down")
    return cache


def keep_build_folder(cache: Cache, trust: Trust, number: int, folder: Path) -> None:
    """Keep a folder that differs from the one before in one part; and a part of another whose build was killed then."""
    key = cache.builds[f"{trust.level}.{trust.branch}-{number}"][0].key
    step = SimpleNamespace(
        tier="torch", key=key, namespace="p.torch", config=SimpleNamespace(build_folder=BuildFolderSettings(1 << 20))
    )
    files = {name: folder / name for name in ("same.tar", "other.tar")}
    files["same.tar"].write_text("same")
    files["other.tar"].write_text(f"{trust.level} {number}")
    publish(cache.session(trust)[0], cast("CompilePlan", step), files)
    cache.store.write(f"{trust.prefix}folders/p.torch/{hashlib.sha256(key.encode()).hexdigest()}.zst", b"left")


def a_day_of_housekeeping(cache: Cache) -> None:
    cache.gc(GcOptions(keep=0))
    for level in ("trusted.main", "untrusted.pr-7"):
        prune_report(cache.store, f"{level}.p.ccache-4.14", MONTH, dry_run=False, accept_loss=False)
    cache.now += DAY + 1


def test_everything_that_was_written_goes_when_nobody_needs_it(lived: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {kind_of(name) for name in lived.store.names()}
    for _ in range(4):
        a_day_of_housekeeping(lived)
        written |= {kind_of(name) for name in lived.store.names()}
    assert written == CCACHE | OTHERS | FOR_EVER, "the tables above"

    monkeypatch.undo()  # what is left of sets and notes fits into the head again
    lived.now += 365 * DAY
    lived.registry = Absent()
    for _ in range(80):
        a_day_of_housekeeping(lived)
    left = {name for name in lived.store.names() if not re.search(r"/records/|^records/", name)}
    assert left == {"gc/marks.json", "untrusted/pr-7/gc/marks.json", REPORT}
    for name in left - {REPORT}:
        assert json.loads(lived.store.read(name)[0])["marks"] == {}
    records = [name for name in lived.store.names() if name not in left]
    assert len([name for name in records if not name.endswith(AGGREGATE)]) <= 4 * READ, "what forecasts read"


def test_what_is_needed_stays(lived: Cache, tmp_path: Path) -> None:
    """The same rounds, while a build a week goes on with what there is."""
    newest, published = lived.builds["trusted.main-2"], lived.objects_of("trusted.main-0")
    for _ in range(30):
        for _ in range(7):
            a_day_of_housekeeping(lived)
        lived.build("trusted.main-2", fresh=False)
        push(lived.store, "trusted.main.p.ccache-4.14", tmp_path / "trusted.main", step="torch")
    assert lived.builds["trusted.main-2"] == newest
    assert lived.objects_of("trusted.main-2") | published <= lived.there()
    pull(lived.store, ["trusted.main.p.ccache-4.14"], tmp_path / "pulled", step="torch")
    assert entries_in(tmp_path / "pulled") == entries_in(tmp_path / "trusted.main")
    assert len(lived.store.names()) < 120
