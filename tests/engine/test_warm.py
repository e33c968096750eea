"""The ccache in the bucket, with a real compiler: lost workers, cold compiles explained, untrusted builds, outages."""

from __future__ import annotations

import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetiers.ccache.namespace import Namespace
from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all, send, wait_while
from tests.gcs.harness import GcsServer

SOURCE = HERE / "repos" / "cpp"
PARTS = 8
LINE = "{name}.native.linux-amd64.debian-trixie-slim.ccache-4.11"


@pytest.fixture
def worker(tmp_path: Path, gcs_server: GcsServer) -> Iterator[Checkout]:
    made = make_checkout(SOURCE, tmp_path / "worker", server=gcs_server)
    yield made
    remove_all(made)


def fresh(worker: Checkout, server: GcsServer, name: str) -> Checkout:
    """Lose the worker and take another one: nothing is left but the bucket."""
    remove_all(worker)
    made = make_checkout(worker.root, worker.root.parent / name, worker.name, server)
    shutil.rmtree(worker.root)
    return made


def lose_wheels(worker: Checkout) -> None:
    assert worker.store is not None
    for blob in list(worker.store.list("wheels/")):
        worker.store.delete(blob.name)
    shutil.rmtree(worker.root / ".imagetiers" / "wheels", ignore_errors=True)


def entries(worker: Checkout, trust: str = "trusted.main") -> int:
    assert worker.store is not None
    return len(Namespace(worker.store, f"{trust}.{LINE.format(name=worker.name)}").load().view.live)


def test_a_worker_that_is_lost_in_the_middle_costs_minutes(worker: Checkout, gcs_server: GcsServer) -> None:
    process = worker.start("compile")
    container = worker.wait_for_container(process)
    wait_while(process, lambda: entries(worker) >= 6)
    process.send_signal(signal.SIGKILL)
    docker("rm", "-f", container)
    process.communicate()
    saved = entries(worker) // 2

    run = fresh(worker, gcs_server, "second").doit("compile")

    assert run.code == 0, run.text
    assert f"{saved} of {PARTS} compiler calls were hits" in run.out
    assert 3 <= saved < PARTS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_pushes_first(
    number: signal.Signals, worker: Checkout, gcs_server: GcsServer
) -> None:
    worker.edit("pipeline.yaml", "checkpoint_minutes: 0.02", "checkpoint_minutes: 60")
    process = worker.start("compile")
    worker.wait_for_container(process)
    wait_while(process, lambda: worker.results() >= 3)
    stopped = send(process, number)
    assert "ccache push: pushed" in stopped.out
    saved = entries(worker) // 2
    assert 3 <= saved < PARTS

    run = fresh(worker, gcs_server, "second").doit("compile")

    assert f"{saved} of {PARTS} compiler calls were hits" in run.out


def test_a_cold_compile_is_explained_and_strict_fails(worker: Checkout) -> None:
    assert worker.doit("compile").code == 0
    lose_wheels(worker)
    warm = worker.doit("compile")
    assert f"{PARTS} of {PARTS} compiler calls were hits" in warm.out
    assert "ccache push: nothing new" in warm.out
    assert "cold" not in warm.out

    worker.edit("pipeline.yaml", 'FLAGS: "-O1"', 'FLAGS: "-O2"')
    cold = worker.doit("compile")
    assert cold.code == 0
    assert "cold, below the 60 % of min_hit_rate: 0 of 8 compiler calls were hits (0.0 %)" in cold.out
    assert "FLAGS=-O1" in cold.out
    assert "FLAGS=-O2" in cold.out

    worker.edit("pipeline.yaml", 'FLAGS: "-O2"', 'FLAGS: "-Os"')
    worker.edit("pipeline.yaml", "min_hit_rate: 0.6", "min_hit_rate: 0.6, strict: true")
    strict = worker.doit("compile")
    assert strict.code == 1
    assert "compile:native: cold, below the 60 % of min_hit_rate" in strict.err
    assert worker.containers() == []

    again = worker.doit("compile")
    assert again.code == 0, "what it compiled was kept, so the next one is warm"
    assert f"{PARTS} of {PARTS} compiler calls were hits" in again.out


def test_an_untrusted_build_reads_and_leaves_no_trace_for_trusted_ones(worker: Checkout, gcs_server: GcsServer) -> None:
    assert worker.doit("compile").code == 0
    assert worker.store is not None
    before = {blob.name: blob.generation for blob in worker.store.list()}
    pull_request = fresh(worker, gcs_server, "pr")
    lose = [name for name in before if name.startswith("wheels/")]
    for name in lose:
        worker.store.delete(name)
        del before[name]
    source = pull_request.root / "images" / "native" / "src" / "part01.cpp"
    source.write_text(source.read_text().replace("part01", "part99"))

    run = pull_request.doit("trust=untrusted", "branch=PR-7", "verify")

    assert run.code == 0, run.text
    assert f"{PARTS - 1} of {PARTS} compiler calls were hits" in run.out
    explained = pull_request.doit("trust=untrusted", "branch=PR-7", "explain", "--objects")
    assert "its source changed (1 object, " in explained.out, "trusted builds have measured it"
    assert "/tmp/out/part01.cpp.o" in explained.out
    after = {blob.name: blob.generation for blob in worker.store.list()}
    assert {name: after[name] for name in before} == before
    new = set(after) - set(before)
    assert new
    assert all(name.startswith(("untrusted/pr-7-", "ccache/untrusted.pr-7-")) for name in new), new


def test_read_only_credentials_are_no_failure(worker: Checkout, gcs_server: GcsServer) -> None:
    gcs_server.config(rules=[{"fault": "status", "status": 403, "op": "insert", "times": 0}])

    run = worker.doit("compile")

    assert run.code == 0, run.text
    assert "not pushed: read-only" in run.out
    assert "Traceback" not in run.text


def test_an_unreachable_bucket_makes_a_compile_cold_and_no_more(worker: Checkout) -> None:
    run = worker.doit("compile", STORAGE_EMULATOR_HOST="http://127.0.0.1:1", IMAGETIERS_CACHE_TIMEOUT="2")

    assert run.code == 0, run.text
    assert "compiles with what is here, for the cache cannot be read" in run.out
    assert "Traceback" not in run.text
    wheels = worker.root / ".imagetiers" / "wheels"
    assert [path for path in wheels.iterdir() if not path.name.startswith(".")]


def test_housekeeping_by_hand(worker: Checkout, gcs_server: GcsServer) -> None:
    empty = worker.doit("ccache:stats")
    assert "holds no ccache of this pipeline yet" in empty.out
    worker.doit("compile")
    assert "8 results, 8 manifests" in worker.doit("ccache:stats").out
    assert ": nothing new" in worker.doit("ccache:push").out
    assert ": 16 entries in " in worker.doit("ccache:verify").out

    stats = worker.doit("ccache:stats", IMAGETIERS_WORKER="unused: this one writes nothing").out
    assert "objects have access lists" in stats
    assert re.search(rf"trusted +{re.escape(socket.gethostname())} +1 +[1-9]", stats), (
        "one compile, and what it has pushed"
    )

    second = fresh(worker, gcs_server, "second")
    assert "16 entries restored" in second.doit("ccache:pull").out
    assert "0 entries would be dropped" in second.doit("ccache:prune", "--dry-run").out
    back = second.doit("ccache:rollback")
    assert "holds" in back.out or "there is no earlier state" in back.err
    wrong = second.doit("ccache:stats", "--namespace", "nope")
    assert wrong.code == 1
    assert "holds no namespace nope" in wrong.err
