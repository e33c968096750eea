"""Namespaces and folders of untrusted builds, as a trusted doit meets them: each verb reads them in a process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from imagetiers.ccache.push import push
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.synthetic import make_directory
from tests.engine.conftest import Checkout

OTHERS = "untrusted.pr-7.tiny.ccache-4.14"
OWN = "trusted.main.tiny.ccache-4.14"


@pytest.fixture
def shared(offline: Checkout, tmp_path: Path) -> Checkout:
    """A checkout whose cache has a namespace of its own, one of a pull request, and a hostile one."""
    store = DirectoryStore(offline.root / ".imagetiers" / "cache")
    make_directory(tmp_path / "a", 5)
    for name in (OWN, OTHERS):
        push(store, name, tmp_path / "a")
        make_directory(tmp_path / "a", 5, seed=2)
        push(store, name, tmp_path / "a")
    store.write("ccache/untrusted.pr-8.tiny.ccache-4.14/head", b"{" * 100_000)
    return offline


@pytest.mark.parametrize("verb", ["stats", "verify", "prune"])
def test_each_namespace_is_served_and_the_hostile_one_told(shared: Checkout, verb: str) -> None:
    run = shared.doit(f"ccache:{verb}")
    assert run.code == 1
    told = {line.partition(":")[0] for line in run.out.splitlines()}
    assert {OWN, OTHERS} <= told
    assert "ccache/untrusted.pr-8.tiny.ccache-4.14/head: " in run.err
    assert "Traceback" not in run.text


def test_a_namespace_of_others_is_rolled_back(shared: Checkout) -> None:
    run = shared.doit("ccache:rollback", "--namespace", OTHERS)
    assert (run.code, run.err) == (0, "")
    assert f"{OTHERS}: holds 10 entries again" in run.out


def test_what_branches_keep_in_the_cache_is_swept(shared: Checkout) -> None:
    cache = shared.root / ".imagetiers" / "cache"
    store = DirectoryStore(cache)
    store.write(f"untrusted/pr-7/wheels/{'ab' * 32}.tar", b"old")
    for path in cache.rglob("*"):
        os.utime(path, (time.time() - 300 * 86_400,) * 2)
    run = shared.doit("cache:gc")
    assert (run.code, run.err) == (0, "")
    assert "cache/untrusted/pr-7:\n  wheels: 0 (0 B) kept, 1 (3 B) marked" in run.out
