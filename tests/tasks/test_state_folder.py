"""`.imagetiers` that is read-only, somebody else's or full: who only looks needs no place to write."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagetiers.config.model import Trust
from imagetiers.planning.labels import Label
from imagetiers.stores.directory import DirectoryStore
from tests.engine.conftest import REPO, Checkout, Run
from tests.registry.harness import upload
from tests.registry.server import RegistryServer

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounts, and is other users: needs root")

LOOKING = (["list"], ["check"], ["plan"], ["status"], ["explain"])
NOBODY = 65534


@pytest.fixture
def shared(offline: Checkout) -> Iterator[Checkout]:
    """The checkout where other users may read it."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    shutil.copytree(offline.root, root / "checkout", symlinks=True)
    yield replace(offline, root=root / "checkout")
    shutil.rmtree(root)


def run(checkout: Checkout, args: list[str], before: str = "", user: int = 0) -> Run:
    """Run doit after some mounts that end with it, or as somebody else."""
    argv = [sys.executable, "-m", "doit", *args]
    if before:
        argv = ["unshare", "--mount", "sh", "-ec", f'{before}\ncd "$PWD"\nexec "$@"', "sh", *argv]
    if user:
        argv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *argv]
    done = subprocess.run(
        argv, cwd=checkout.root, env={**os.environ, "PYTHONPATH": str(REPO), **checkout.env, "PWD": str(checkout.root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare failed" in done.stderr:
        pytest.skip("no mounts here")
    if "setpriv: failed" in done.stderr:
        pytest.skip("others may not run this Python")
    return Run(done.returncode, done.stdout, done.stderr, 0)


def looks(go: Callable[[list[str]], Run]) -> list[Run]:
    runs = [go(args) for args in LOOKING]
    assert [run.code for run in runs] == [0] * len(runs), [run.text for run in runs]
    assert [run.err for run in runs] == [""] * len(runs)
    return runs


def test_a_read_only_checkout(offline: Checkout) -> None:
    def go(args: list[str]) -> Run:
        return run(offline, args, "mount --bind . .\nmount -o remount,ro,bind .")

    looks(go)
    assert not (offline.root / ".imagetiers").exists()
    build = go(["image"])
    assert build.code == 1
    assert build.err.startswith(f"{offline.root}/.imagetiers: Read-only file system\n"), build.err
    forget = go(["forget", "image:arr-base"])
    assert (forget.code, "was not forgotten" in forget.err) == (3, True)
    ignore = go(["ignore", "image:arr-base"])
    assert (ignore.code, "doit ignore cannot be kept" in ignore.err) == (3, True)


def test_a_full_disk(offline: Checkout) -> None:
    (offline.root / ".imagetiers").mkdir()

    def go(args: list[str]) -> Run:
        fill = "dd if=/dev/zero of=.imagetiers/fill bs=4k 2>/dev/null || true"
        return run(offline, args, f"mount -t tmpfs -o size=64k tmpfs .imagetiers\n{fill}")

    looks(go)
    ignore = go(["ignore", "image:arr-base"])
    assert (ignore.code, "database or disk is full" in ignore.err) == (3, True)


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_somebody_elses(mode: int, shared: Checkout) -> None:
    assert shared.doit("check").code == 0  # root makes .imagetiers
    folder = shared.root / ".imagetiers"
    (folder / "locks").mkdir()
    folder.chmod(mode)

    def go(args: list[str]) -> Run:
        return run(shared, args, user=NOBODY)

    runs = looks(go)
    left_out = f"{folder}: Permission denied: what it holds is left out"
    assert (left_out in runs[3].out) == (mode == 0o700), runs[3].out
    build = go(["image"])
    assert build.code == 1
    assert f"belongs to user 0, and this is user {NOBODY}" in build.err


@pytest.mark.parametrize(
    ("before", "user", "why"),
    [
        ("mount --bind .imagetiers .imagetiers\nmount -o remount,ro,bind .imagetiers", 0, "Read-only file system"),
        ("mount -t tmpfs -o nr_inodes=1 tmpfs .imagetiers", 0, "No space left on device"),
        ("", NOBODY, "Permission denied"),
    ],
    ids=["read-only", "full", "somebody else's"],
)
def test_one_line_where_marks_cannot_be_kept(
    before: str, user: int, why: str, shared: Checkout, registry_server: RegistryServer
) -> None:
    """The cache knows that all three images have passed; that is reported once, and what it means is shown all the same."""
    name = f"test-{secrets.token_hex(4)}"
    shared.edit("pipeline.yaml", "name: tiny", f"name: {name}\nregistry: {registry_server.host}/marks\ncache: cache")
    images = [publish(tier, registry_server.host) for tier in shared.plan().values()]
    shutil.rmtree(shared.root / ".imagetiers")
    (shared.root / ".imagetiers").mkdir()
    for image, check in images:
        DirectoryStore(shared.root / "cache").write(f"verdicts/{image}/{check}.json", b'{"passed": true}')

    status, plan, explain = (run(shared, [verb], before, user) for verb in ("status", "plan", "explain"))

    where = shared.root / ".imagetiers/state"
    line = f"{where}: {why}: what the cache knows of checks is not kept here\n"
    told = {line, line.replace("state:", "state/verdicts:"), line.replace("state:", "doit.db:")}
    for looked in (status, plan):
        assert (looked.code, looked.err) == (0, ""), looked.text
        assert sum(looked.out.count(each) for each in told) == 1, looked.out
        assert looked.out.count("is not kept here") == 1
    assert status.out.count("  yes") == len(images), status.out
    assert (explain.code, explain.err) == (0, "")
    assert not where.exists()
    kept = run(shared, ["status"])
    assert (kept.code, "is not kept" in kept.out) == (0, False)
    assert len(list((where / "verdicts").iterdir())) == len(images)


def publish(tier: dict[str, Any], host: str) -> tuple[str, str]:
    """Publish an image of the tier's key; return its id, without the kind of digest, and its checks' hash."""
    repository, _, tag = str(tier["ref"]).partition("/")[2].rpartition(":")
    labels = {Label.KEY: tier["key"], Label.TIER: tier["tier"], Label.TRUST: Trust().label}
    config = json.dumps({"config": {"Labels": labels}}).encode()
    upload(host, repository, tag, config)
    return hashlib.sha256(config).hexdigest(), str(tier["check"])


def test_a_database_that_is_none(offline: Checkout) -> None:
    folder = offline.root / ".imagetiers"
    folder.mkdir()
    (folder / "doit.db").write_text("no database, and longer than a header of sqlite would be: " * 10)

    looks(lambda args: run(offline, args))
    ignore = run(offline, ["ignore", "image:arr-base"])
    assert (ignore.code, "file is not a database" in ignore.err) == (3, True)


def test_a_file_in_its_place(offline: Checkout) -> None:
    (offline.root / ".imagetiers").touch()

    looks(lambda args: run(offline, args))
    build = run(offline, ["image"])
    assert (build.code, "a file is where a folder should be" in build.err) == (1, True), build.err
