"""A checkout with a pipeline of its own name, driven through the real doit on the real engine; cleaned up by that name."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagetiers.adapters.docker_socket import unix_socket
from imagetiers.layers.archive import ImageFiles, read_saved
from imagetiers.layers.model import ReadOptions
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.port import Store
from tests.conftest import HERE
from tests.gcs.harness import BUCKET, GcsServer
from tests.registry.server import RegistryServer
from tests.waiting import PATIENCE, wait_until

REPO = HERE.parent
TINY = HERE / "repos" / "tiny"

# Asks the agent for its keys (SSH2_AGENTC_REQUEST_IDENTITIES): Debian's perl-base can, so nothing has to be installed.
ASK = (
    "perl -MIO::Socket::UNIX -e '"
    'my $s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or exit 3; print $s pack("NC", 1, 11); $s->flush;'
    'read $s, my $n, 4; read $s, my $answer, unpack("N", $n);'
    'my ($count, $size) = unpack("x N N", $answer); print "$count ", unpack("H*", substr $answer, 9, $size)\''
)


_OF_A_LAYER = re.compile(r"^(ID|Parent|Description):\s*(.*)$", re.MULTILINE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


@dataclass(frozen=True)
class Run:
    """What a doit did: exit code, output, and the tasks that it executed."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def executed(self) -> list[str]:
        return re.findall(r"^\.  (\S+)", self.out, re.MULTILINE)

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Checkout:
    """A folder with dodo.py and a pipeline."""

    root: Path
    name: str
    env: Mapping[str, str] = field(default_factory=dict)
    store: Store | None = None

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "doit", *args],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(REPO), **self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def doit(self, *args: str, **env: str) -> Run:
        began = time.monotonic()
        process = self.start(*args, **env)
        try:
            out, err = process.communicate()
        except BaseException:  # pytest's own limit, among others
            process.kill()
            process.communicate()
            raise
        return Run(process.returncode, out, err, time.monotonic() - began)

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert old in text
        (self.root / path).write_text(text.replace(old, new, 1))

    def plan(self, *args: str) -> dict[str, dict[str, object]]:
        run = self.doit(*args, "plan", "--json", "-")
        assert run.code == 0, run.text
        return {tier["tier"]: tier for tier in json.loads(run.out)["tiers"]}

    def refs(self) -> set[str]:
        listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        return {ref for ref in listed if ref.startswith(f"{self.name}/") or f"/{self.name}/" in ref}

    def containers(self) -> list[str]:
        found = docker("ps", "-a", "--format", "{{.Names}} {{.Image}}").splitlines()
        return [line.split()[0] for line in found if f"/{self.name}/" in f"/{line.split()[1]}"]

    def records(self, kind: str) -> list[dict[str, object]]:
        store = self.store or DirectoryStore(self.root / ".imagetiers" / "cache")
        names = [blob.name for blob in store.list("records/") if f"/{kind}/" in blob.name]
        return [json.loads(store.read(name)[0]) for name in names]

    def results(self) -> int:
        """Return how many results ccache has kept here."""
        return sum(path.name.endswith("R") for path in (self.root / ".imagetiers" / "ccache").rglob("*"))

    def wait_for_container(self, process: subprocess.Popen[str]) -> str:
        """Wait as long as the doit runs that is to start one: a busy machine builds its image for minutes."""
        running: list[str] = []

        def look() -> list[str]:
            running[:] = [name for name in self.containers() if name.startswith("imagetiers-compile-")]
            return running

        wait_while(process, look)
        return running[0]


def daemon_socket() -> str:
    """Return where the engine is that these tests run on."""
    path = unix_socket(os.environ.get("DOCKER_HOST"))
    assert path is not None
    return path


def docker(*args: str) -> str:
    return subprocess.run(["docker", *args], check=True, capture_output=True, text=True).stdout


def layer_records() -> list[dict[str, str]]:
    """Return what BuildKit says of the layers that it keeps: ID, Parent, and in Description the command that made it."""
    listed = docker("buildx", "du", "--verbose").split("\n\n")
    return [found for text in listed if "ID" in (found := dict(_OF_A_LAYER.findall(text)))]


def read_image(ref: str) -> ImageFiles:
    """Return an image as the engine saves it."""
    with subprocess.Popen(["docker", "save", ref], stdout=subprocess.PIPE) as saved:
        assert saved.stdout is not None
        return read_saved(iter(lambda: saved.stdout.read(1 << 20), b""), ReadOptions(sizes=True))  # type: ignore[union-attr]


def files_of(ref: str) -> dict[str, tuple[object, ...]]:
    """Return all that there is in an image, but for times."""
    return {
        path: (entry.kind, entry.mode, entry.uid, entry.gid, entry.target, entry.hash)
        for path, entry in read_image(ref).tree.entries.items()
    }


def make_checkout(
    source: Path, root: Path, name: str = "", server: GcsServer | None = None, *, built: bool = True
) -> Checkout:
    """Copy a repository; with `server` its cache is a bucket there, and each name has a prefix of its own.

    What is not `built` has the keys that golden files know.
    """
    name = name or f"test-{secrets.token_hex(4)}"
    shutil.copytree(
        source, root, ignore=shutil.ignore_patterns(".git", ".venv", ".imagetiers", "__pycache__", "tests", ".*_cache")
    )
    shutil.copy(REPO / "dodo.py", root / "dodo.py")
    if source == TINY and built:
        for path in ("make-wheel", "motd"):
            make_own(root / "images" / "pytorch-clean" / path)
    pipeline = root / "pipeline.yaml"
    pipeline.write_text(re.sub(r"^name: .*$", f"name: {name}", pipeline.read_text(), flags=re.MULTILINE))
    if server is None:
        return Checkout(root, name)
    text = re.sub(r"^cache: .*\n", "", pipeline.read_text(), flags=re.MULTILINE)
    pipeline.write_text(text.replace("version: 1\n", f"version: 1\ncache: gs://{BUCKET}/{name}\n"))
    return Checkout(root, name, {"STORAGE_EMULATOR_HOST": server.url}, server.store(name))


def make_own(path: Path) -> None:
    """Let a file that many tests build from, and all layers above it, be those of no other process (`TOGETHER` says why)."""
    if process := os.environ.get("PYTEST_XDIST_WORKER"):
        path.write_text(f"{path.read_text()}# {process}\n")


def remove_all(checkout: Checkout) -> None:
    for container in checkout.containers():
        with contextlib.suppress(subprocess.CalledProcessError):
            docker("rm", "-f", container)
    with contextlib.suppress(subprocess.CalledProcessError):
        forget_images(checkout)
    for ref in sorted(checkout.refs()):
        with contextlib.suppress(subprocess.CalledProcessError):
            docker("rmi", "-f", ref)


def use_ccache(checkout: Checkout) -> None:
    """Let a copy of the tiny pipeline compile with the real ccache; only the compiler pretends."""
    folder = checkout.root / "images" / "pytorch-clean"
    shutil.copytree(HERE / "repos" / "with-ccache", folder, dirs_exist_ok=True)
    shutil.copy(Path(sysconfig.get_path("scripts")) / "ccache", folder)
    make_own(folder / "cc")
    checkout.edit("images/pytorch-clean/.image-manifest", "make-wheel\n", "make-wheel\ncc\nccache\n")
    checkout.edit(
        "images/pytorch-clean/Dockerfile", "COPY make-wheel", "COPY cc ccache /usr/local/bin/\nCOPY make-wheel"
    )
    checkout.edit("pipeline.yaml", "max_size: 100M}", "max_size: 100M, checkpoint_minutes: 0.005}")


def bucket(checkout: Checkout) -> set[tuple[str, int]]:
    """Return the names and generations of all that the checkout's cache holds, but for the report, which each build writes."""
    assert checkout.store is not None
    return {(blob.name, blob.generation) for blob in checkout.store.list() if not blob.name.startswith("reports/")}


def names(checkout: Checkout, prefix: str) -> list[str]:
    """Return the names in the cache that begin with `prefix`."""
    return [name for name, _ in bucket(checkout) if name.startswith(prefix)]


def use_registry(checkout: Checkout, server: RegistryServer, cache: Path | None = None) -> None:
    """Let a checkout push to the registry, and share a cache if one is given; its base image comes from there, too."""
    base = f"{server.host}/base/debian:trixie-slim"
    if server.digest("base/debian", "trixie-slim") is None:
        docker("tag", "debian:trixie-slim", base)
        docker("push", "-q", base)
        docker("rmi", base)  # only the name; builds find it in the registry
    checkout.edit("pipeline.yaml", "version: 1\n", f"version: 1\nregistry: {server.host}\n")
    if cache is not None:
        checkout.edit("pipeline.yaml", "version: 1\n", f"version: 1\ncache: {cache}\n")
    checkout.edit("pipeline.yaml", "debian:trixie-slim", base)
    digest = server.digest("base/debian", "trixie-slim")
    (checkout.root / "pipeline.lock.yaml").write_text(f"images:\n  {base}: {digest}\n")


def forget_images(checkout: Checkout) -> None:
    """Make this machine's Docker a fresh worker's, as far as the checkout's pipeline goes.

    By reference and never by id: an image may have other names, which are other people's.
    """
    listed = docker("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}").splitlines()
    refs = set()
    for line in listed:
        repository, tag, digest = line.split()
        if f"/{checkout.name}/" in f"/{repository}/":
            refs |= {f"{repository}:{tag}"} if tag != "<none>" else set()
            refs |= {f"{repository}@{digest}"} if digest != "<none>" else set()
    for ref in sorted(refs):
        with contextlib.suppress(subprocess.CalledProcessError):
            docker("rmi", ref)


@pytest.fixture(scope="session")
def builder() -> Iterator[str]:
    """Build the image that the steps of Cloud Build run in."""
    name = f"imagetiers-builder:test-{secrets.token_hex(4)}"
    command = ["docker", "buildx", "build", "--load", "--quiet", "--tag", name, "-f", "ci/builder/Dockerfile", "."]
    built = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    yield name
    with contextlib.suppress(subprocess.CalledProcessError):  # a container that is still going away holds it
        docker("rmi", "-f", name)


@dataclass(frozen=True)
class C10:
    """A compile of PyTorch's core library: the worker that was killed in it, what its next doit said, and the bucket."""

    checkout: Checkout
    store: Store
    server: GcsServer
    resumed: Run


@pytest.fixture(scope="session")
def c10(tmp_path_factory: pytest.TempPathFactory) -> Iterator[C10]:
    """Compile PyTorch's core library once for all that need it in a bucket: killed in the middle, and continued."""
    server = GcsServer("--latency", "0.02")
    made = make_checkout(REPO, tmp_path_factory.mktemp("c10") / "checkout", server=server)
    # What ccache does, is seen without: test_build_folder.py has the folder.
    made.edit("pipeline.yaml", ", build_folder: {max_size: 1G}", "")
    assert made.store is not None
    try:
        process = made.start("variant=quickstart", "compile:pytorch-clean")
        made.wait_for_container(process)
        wait_while(process, lambda: made.results() >= 20)
        send(process, signal.SIGKILL)
        resumed = made.doit("variant=quickstart", "compile:pytorch-clean")
        assert resumed.code == 0, resumed.text
        yield C10(made, made.store, server, resumed)
    finally:
        remove_all(made)
        server.close()


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """The tiny pipeline in a checkout of its own, not built yet."""
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    yield made
    remove_all(made)


def wait_while(process: subprocess.Popen[str], until: Callable[[], object]) -> None:
    """Wait until `until` says so; a process that ends before fails with what it has said."""
    wait_until(lambda: until() or process.poll() is not None, pause=0.1)
    assert process.poll() is None, process.communicate()


def send(process: subprocess.Popen[str], number: signal.Signals) -> Run:
    """Send a signal and wait for the end."""
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return Run(process.returncode, out, err, 0)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Run an agent with one key of its own; return its socket, and the public key in hex digits."""
    place = tmp_path / "agent.sock"
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    told = subprocess.run(["ssh-agent", "-a", str(place)], check=True, capture_output=True, text=True).stdout
    number = re.search(r"SSH_AGENT_PID=(\d+)", told)
    assert number is not None
    try:
        env = {**os.environ, "SSH_AUTH_SOCK": str(place)}
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env=env)
        public = (tmp_path / "id.pub").read_text().split()[1]
        decoded = subprocess.run(["base64", "-d"], input=public.encode(), check=True, capture_output=True).stdout
        yield str(place), decoded.hex()
    finally:
        os.kill(int(number[1]), signal.SIGTERM)
