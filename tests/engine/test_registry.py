"""The registry, on the real engine and a real one: what is built where, what is published, and what went wrong with it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imagetiers.adapters.docker import DockerEngine
from imagetiers.adapters.signals import SignalCancellation
from imagetiers.errors import RegistryError
from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, forget_images, make_checkout, remove_all, use_registry
from tests.registry.server import RegistryServer, request
from tests.waiting import PATIENCE

TIERS = ["pytorch-clean", "arr-base", "arr-training"]
FIRST = ["compile:pytorch-clean"] + [f"{verb}:{tier}" for tier in TIERS for verb in ("image", "verify", "push")]

Worker = Callable[[], Checkout]


@pytest.fixture
def worker(tmp_path: Path, registry_server: RegistryServer) -> Iterator[Worker]:
    """Make checkouts of one pipeline, each as on a machine of its own, with one registry and one cache."""
    made: list[Checkout] = []

    def make() -> Checkout:
        name = made[0].name if made else ""
        checkout = make_checkout(HERE / "repos" / "tiny", tmp_path / f"worker-{len(made)}", name)
        use_registry(checkout, registry_server, tmp_path / "cache")
        made.append(checkout)
        return checkout

    yield make
    for checkout in made[:1]:
        remove_all(checkout)


def test_cold_then_fresh_then_changed(worker: Worker, registry_server: RegistryServer) -> None:
    cold = worker()
    first = cold.doit()
    assert first.code == 0, first.text
    assert first.executed == FIRST
    assert first.out.count(", pushed in ") == len(TIERS), "the engine says as what it has pushed each"
    plan = cold.plan()
    for tier in TIERS:
        tags = registry_server.tags(f"{cold.name}/{tier}")
        assert list(tags) == sorted([str(plan[tier]["key"])[:12], "latest"])
        assert len(set(tags.values())) == 1, "the friendly tag points to the same image"
    child = json.loads(docker("image", "inspect", f"{registry_server.host}/{cold.name}/arr-training:latest"))[0]
    assert child["RepoDigests"]
    log = (cold.root / ".imagetiers" / "logs" / "arr-base").glob("image-*.log")
    parent = registry_server.digest(f"{cold.name}/pytorch-clean", "latest")
    assert f"pytorch-clean@{parent}" in next(log).read_text(), "a child is built FROM its parent's digest"
    second = cold.doit()
    assert (second.code, second.executed) == (0, [])

    forget_images(cold)
    before = registry_server.listing()
    fresh = worker()
    run = fresh.doit()
    assert (run.code, run.executed) == (0, []), run.text
    assert {tier["state"] for tier in fresh.plan().values()} == {"found in registry"}
    assert fresh.refs() == set(), "nothing was pulled that nobody needs"
    assert registry_server.listing() == before

    (fresh.root / "images/arr-base/config/arr-base.txt").write_text("edited\n")
    changed = fresh.doit()
    assert changed.code == 0, changed.text
    assert changed.executed == [t for t in FIRST if not t.endswith(":pytorch-clean")]
    assert fresh.doit().executed == []

    pulled = fresh.doit("pull:pytorch-clean")
    assert pulled.code == 0, pulled.text
    assert any(ref.endswith("/pytorch-clean:latest") for ref in fresh.refs())


def only_base(checkout: Checkout) -> None:
    """Two tiers are enough for most stories."""
    checkout.edit("pipeline.yaml", "  arr-training: {parent: arr-base}\n", "")
    shutil.rmtree(checkout.root / "images" / "arr-training")


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "lock"
    }


def test_pull_requests_read_and_leave_nothing(worker: Worker, registry_server: RegistryServer, tmp_path: Path) -> None:
    trusted = worker()
    assert trusted.doit().code == 0
    forget_images(trusted)
    images = registry_server.listing()
    cache = content(tmp_path / "cache")
    pull_request = worker()
    pr = ("trust=untrusted", "branch=pr-7")

    unchanged = pull_request.doit(*pr)
    assert (unchanged.code, unchanged.executed) == (0, []), unchanged.text
    (pull_request.root / "images/arr-base/config/arr-base.txt").write_text("edited\n")
    told = pull_request.doit(*pr, "explain", "arr-training")
    assert "images/arr-base/config/arr-base.txt:1: edited" in told.out
    assert "- for arr-base" in told.out
    run = pull_request.doit(*pr)
    assert run.code == 0, run.text
    assert run.executed == [f"{v}:{t}" for v in ("image", "verify") for t in ("arr-base", "arr-training")]
    assert "an untrusted build pushes nothing" in pull_request.doit(*pr, "push:arr-base").err

    assert registry_server.listing() == images
    after = content(tmp_path / "cache")
    mine = [name for name in after if not name.startswith("untrusted") and "/untrusted@/" not in f"/{name}"]
    assert {name: after[name] for name in mine} == cache

    later = worker()
    (later.root / "images/arr-base/config/arr-base.txt").write_text("edited\n")
    assert later.plan()["arr-base"]["state"] == "build", "a trusted build takes nothing that a pull request has left"


def test_a_registry_that_is_down_stops_pushes_and_never_rebuilds(worker: Worker, tmp_path: Path) -> None:
    server = RegistryServer(tmp_path / "own-registry")
    try:
        checkout = worker()
        only_base(checkout)
        old = (checkout.root / "pipeline.yaml").read_text().split("registry: ")[1].split()[0]
        pipeline = checkout.root / "pipeline.yaml"
        pipeline.write_text(pipeline.read_text().replace(f"registry: {old}", f"registry: {server.host}"))
        assert checkout.doit("push:pytorch-clean").code == 0
        server.stop()

        down = checkout.doit("--continue")
        assert down.code in {1, 2}
        assert "no answer from the registry" in down.err
        assert "image:pytorch-clean" not in down.executed, "what is here is here"
        assert "Traceback" not in down.text
        assert checkout.plan()["arr-base"]["state"] == "unknown"
        forget_images(checkout)
        shutil.rmtree(checkout.root / ".imagetiers" / "wheels")
        shutil.rmtree(tmp_path / "cache")
        fresh = checkout.doit("image:pytorch-clean")
        assert fresh.code == 1
        assert "the registry does not say whether the image is there" in fresh.err
        assert checkout.records("compile") == [], "nothing was compiled on a guess"
        assert "unknown" in checkout.doit("explain", "pytorch-clean").out.splitlines()[0]

        server.start()
        again = checkout.doit()
        assert again.code == 0, again.text
        assert "image:pytorch-clean" not in again.executed, "it was in the registry all the time"
        status = checkout.doit("status").out
        assert "digest" in status.splitlines()[1]
    finally:
        server.stop()


def test_two_at_once_end_with_one_digest(worker: Worker, registry_server: RegistryServer) -> None:
    """One Docker is both builders' here, so this shows the whole of doit; tests/registry has builders that differ."""
    checkouts = worker(), worker()
    for checkout in checkouts:
        only_base(checkout)
        checkout.edit("images/arr-base/Dockerfile", "COPY config/", "RUN head -c 16 /dev/urandom >/tmp/x\nCOPY config/")
    running = [checkout.start() for checkout in checkouts]
    results = [(process.communicate(timeout=PATIENCE), process.returncode) for process in running]
    assert [code for _, code in results] == [0, 0], results

    for tier in TIERS[:2]:
        assert len(set(registry_server.tags(f"{checkouts[0].name}/{tier}").values())) == 1
    assert [checkout.doit().executed for checkout in checkouts] == [[], []]


def test_checks_that_are_new_are_run_on_what_is_pulled(worker: Worker) -> None:
    first = worker()
    only_base(first)
    assert first.doit().code == 0
    forget_images(first)
    second = worker()
    only_base(second)
    (second.root / "images/arr-base/verify.py").write_text('echo "ok   another check"\n')

    run = second.doit()

    assert run.code == 0, run.text
    assert run.executed == ["verify:arr-base", "push:arr-base"]
    assert "pull:arr-base: sha256:" in run.out


def test_lock_pins_what_trusted_builds_want_pinned(worker: Worker, registry_server: RegistryServer) -> None:
    checkout = worker()
    only_base(checkout)
    base = f"{registry_server.host}/base/debian:trixie-slim"
    (checkout.root / "pipeline.lock.yaml").write_text("images: {}\n")
    refused = checkout.doit()
    assert refused.code == 1
    assert f"{base} is not pinned" in refused.err
    assert "doit lock" in refused.err
    stale = checkout.doit("lock", "--check")
    assert (stale.code, "is stale" in stale.err) == (1, True)

    locked = checkout.doit("lock")
    assert locked.code == 0, locked.text
    digest = registry_server.digest("base/debian", "trixie-slim")
    assert f"+ {digest}" in locked.out
    assert checkout.doit("lock", "--check").code == 0
    assert checkout.doit().code == 0

    (checkout.root / "pipeline.lock.yaml").write_text(f"images:\n  {base}: sha256:{'0' * 64}\n")
    moved = checkout.doit("lock", "--check")
    assert (moved.code, f"- sha256:{'0' * 64}" in moved.err) == (1, True)
    told = checkout.doit("explain", "pytorch-clean").out
    assert told.splitlines()[0].endswith("base digest moved")


def test_a_tag_that_was_overwritten_is_said_and_put_back(worker: Worker, registry_server: RegistryServer) -> None:
    checkout = worker()
    only_base(checkout)
    assert checkout.doit().code == 0
    repository, key = f"{checkout.name}/arr-base", str(checkout.plan()["arr-base"]["key"])[:12]
    right = registry_server.digest(repository, key)
    docker("tag", "debian:trixie-slim", f"{registry_server.host}/{repository}:hand")
    docker("push", "-q", f"{registry_server.host}/{repository}:hand")
    registry_server.overwrite(repository, key, "hand")
    docker("rmi", f"{registry_server.host}/{repository}:hand")
    forget_images(checkout)

    fresh = worker()
    only_base(fresh)
    assert "was overwritten: it holds an image that imagetiers has not built" in " ".join(
        fresh.doit("status").out.split()
    )
    run = fresh.doit()

    assert run.code == 0, run.text
    assert run.executed == ["push:arr-base"]
    assert registry_server.digest(repository, key) == right
    assert fresh.doit().executed == []


def test_list_and_a_doit_that_has_nothing_to_do_are_quick(worker: Worker) -> None:
    checkout = worker()
    only_base(checkout)
    assert checkout.doit().code == 0

    seconds = min(checkout.doit().seconds for _ in range(3))
    assert seconds < 5, "one batch of requests and no more, even on a busy machine"
    loaded = checkout.doit("list", PYTHONPROFILEIMPORTTIME="1")
    assert "requests.sessions" not in loaded.err


class Faulty(ThreadingHTTPServer):
    """Stands before a registry and answers the first `faults` manifests that are put with a status of its own."""

    daemon_threads = True

    def __init__(self, behind: str, status: int, faults: int) -> None:
        self.left = faults
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            default_request_version = (
                "HTTP/1.1"  # in whose words TLS is refused: containerd takes no others for plain HTTP
            )

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                chunked = self.headers.get("Transfer-Encoding") == "chunked"
                body = self._chunks() if chunked else self.rfile.read(length)
                headers: dict[str, str] = {}
                if self.command == "PUT" and "/manifests/" in self.path and faulty.left:
                    faulty.left -= 1
                    answer, text = status, b"{}"
                else:
                    sent = {name: value for name, value in self.headers.items() if name != "Transfer-Encoding"}
                    answer, headers, text = request(behind, self.command, self.path, body, sent)
                self.send_response(answer)
                for name, value in headers.items():
                    if name not in {"content-length", "transfer-encoding"} or self.command == "HEAD":
                        self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _chunks(self) -> bytes:
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            do_PUT = do_POST = do_PATCH = do_HEAD = do_GET  # noqa: N815  http.server's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.mark.parametrize(("status", "faults", "left"), [(500, 2, 0), (503, 9, 5), (403, 9, 8)])
def test_a_push_that_fails_for_a_moment_is_tried_again(
    registry_server: RegistryServer, status: int, faults: int, left: int
) -> None:
    server = Faulty(registry_server.host, status, faults)
    ref = f"{server.host}/faulty/{status}:x"
    empty = subprocess.run(["tar", "c", "-T", "/dev/null"], check=True, capture_output=True).stdout
    subprocess.run(["docker", "import", "-", ref], input=empty, check=True, capture_output=True)
    engine = DockerEngine(SignalCancellation())
    try:
        if left:
            with pytest.raises(RegistryError, match="cannot be pushed"):
                engine.push(ref, lambda _: None)
        else:
            assert engine.push(ref, lambda _: None) == registry_server.digest(f"faulty/{status}", "x")
        assert server.left == left
    finally:
        docker("rmi", ref)
        server.shutdown()
        server.server_close()
