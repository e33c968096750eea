"""A world with a real registry and a real cache folder, and an engine that is only a table: builders in milliseconds.

As a program it is one builder of several: `python harness.py CHECKOUT HOST CACHE STATE TIER`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole

from imagetiers.adapters.cosign import Cosign
from imagetiers.adapters.git import GitRemotes
from imagetiers.adapters.hadolint import Hadolint
from imagetiers.adapters.registry import HttpRegistry
from imagetiers.adapters.trivy import Trivy
from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.errors import RegistryError
from imagetiers.inputs.repository import load_repository
from imagetiers.layers.image_config import ImageConfig
from imagetiers.planning.containers import BuildImage, Container
from imagetiers.planning.labels import Label
from imagetiers.planning.make import make_plan
from imagetiers.planning.observed import CacheRecord, ImageInfo, Stored
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.retry import RetryPolicy
from imagetiers.services import Bar, ContainerLoad, ContainerState, EngineInfo, OnLine, Services
from imagetiers.session import Session
from imagetiers.state.observe import keep_verdict
from imagetiers.stores.directory import DirectoryStore
from tests.registry.server import SCHEMA2, request

QUICK = RetryPolicy(first=0.01, most=0.05, total=1.0, throttled=0.01, connect=1.0, answer=1.0)
# For builders that are processes: on a busy machine, a second is nothing.
PATIENT = replace(QUICK, total=15.0, connect=10.0, answer=10.0)
DAY = date(2026, 11, 21)


@dataclass
class TableEngine:
    """Images as values. `push` and `pull` talk to the registry as Docker does: blobs, then the manifest.

    With `containerd` an image is called by its manifest's digest, and known by it before it was pushed.
    """

    host: str
    table: dict[str, ImageInfo] = field(default_factory=dict)
    configs: dict[str, bytes] = field(default_factory=dict)
    builds: list[BuildImage] = field(default_factory=list)
    refuse: str = ""
    before_push: Any = None
    policy: RetryPolicy = QUICK
    containerd: bool = False

    def images(self) -> tuple[ImageInfo, ...]:
        byid: dict[str, list[str]] = {}
        for ref, image in self.table.items():
            byid.setdefault(image.id, []).append(ref)
        return tuple(replace(self.table[refs[0]], refs=tuple(refs)) for refs in byid.values())

    def make(self, tier: TierPlan, *, trust: str = "trusted", key: str = "") -> ImageInfo:
        """Build: the same key, but never the same image."""
        labels = {
            Label.KEY: key or tier.key, Label.TIER: tier.name, Label.PIPELINE: "tiny", Label.TRUST: trust,
            Label.KEY_DOCUMENT: tier.key_document.json(),
        }  # fmt: skip
        document = {"created": "2026-11-21T10:00:00Z", "config": {"Labels": labels}, "nonce": secrets.token_hex(8)}
        config = json.dumps(document).encode()
        id_ = digest_of(manifest_of(config) if self.containerd else config)
        self.configs[id_] = config
        image = ImageInfo(
            id_, (), "tiny", "", tier.name, key or tier.key, 1, 100, key_document=tier.key_document.json(), trust=trust,
            digests=(f"{tier.repository}@{id_}",) if self.containerd else (),
        )  # fmt: skip
        self.table[tier.ref] = image
        return image

    def image_config(self, ref: str) -> ImageConfig:
        raise AssertionError(f"nothing is declared of {ref}")

    def push(self, ref: str, on_line: OnLine) -> str:
        if self.before_push is not None:
            self.before_push()
        if self.refuse:
            raise RegistryError.of(ref, self.refuse)
        repository, _, tag = ref.rpartition(":")
        path = repository.partition("/")[2]
        image = self.table[ref]
        on_line("layer Pushed")
        digest = upload(self.host, path, tag, self.configs[image.id])
        self._add(ref, replace(image, digests=(*image.digests, f"{repository}@{digest}")))
        return digest

    def pull(self, ref: str, on_line: OnLine) -> None:
        on_line("layer Pull complete")
        repository = ref.partition("@")[0]
        registry = HttpRegistry(self.policy)
        found = registry.look_up([ref])
        image = registry.describe(found)[ref]  # type: ignore[arg-type]
        assert isinstance(image, ImageInfo)
        if self.containerd:
            image = replace(image, id=image.digests[0])
        known = self._by_id(image.id)
        self.table[ref] = replace(known or image, refs=(), digests=(f"{repository}@{image.digests[0]}",))

    def tag(self, ref: str, tags: tuple[str, ...]) -> None:
        for tag in tags:
            self.table[tag] = self.table[ref]

    def _by_id(self, id_: str) -> ImageInfo | None:
        return next((image for image in self.table.values() if image.id == id_), None)

    def _add(self, ref: str, image: ImageInfo) -> None:
        for known in [known for known, other in self.table.items() if other.id == image.id]:
            self.table[known] = image
        self.table[ref] = image

    def build(self, build: BuildImage, context: Iterable[bytes], on_line: OnLine, seconds: float | None = None) -> None:
        raise NotImplementedError

    def info(self) -> EngineInfo:
        return EngineInfo("26.1.5", cpus=2, memory=8 << 30)

    def has_image(self, ref: str) -> bool:
        return ref in self.table

    def save(self, *refs: str) -> Iterator[bytes]:
        raise NotImplementedError

    def layers(self, ref: str) -> tuple[str, ...]:
        raise NotImplementedError

    def stored(self) -> Stored:
        raise NotImplementedError

    def build_cache(self) -> tuple[CacheRecord, ...]:
        raise NotImplementedError

    def prune_build_cache(self, ids: Iterable[str]) -> frozenset[str]:
        raise NotImplementedError

    def untag(self, ref: str) -> bool:
        return self.table.pop(ref, None) is not None

    def find_containers(self, label: str, value: str) -> tuple[ContainerState, ...]:
        raise NotImplementedError

    def start(self, container: Container, files: bytes | None = None, stdin: bytes | None = None) -> str:
        raise NotImplementedError

    def follow(self, container_id: str, on_line: OnLine) -> int:
        raise NotImplementedError

    def load(self, container_id: str) -> ContainerLoad:
        raise NotImplementedError

    def stop(self, container_id: str, grace: int) -> None:
        raise NotImplementedError

    def remove(self, container_id: str) -> None:
        raise NotImplementedError


class Lines:
    """A console that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def write(self, text: str, *, error: bool = False) -> None:
        raise NotImplementedError

    def print(self, renderable: object) -> None:
        console = RichConsole(width=200)
        with console.capture() as drawn:
            console.print(renderable)
        self.lines.append(drawn.get())

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[object], None]]:
        yield self.print

    @contextlib.contextmanager
    def progress(self, title: str, log: Path | None = None) -> Iterator[Bar]:  # noqa: ARG002
        yield self

    def update(self, done: int, total: int, note: str = "") -> None:
        pass


class NoLocks:
    @contextlib.contextmanager
    def hold(self, name: str, purpose: str, left: object = None) -> Iterator[None]:  # noqa: ARG002
        yield

    def held(self, folder: Path | None = None) -> frozenset[str]:  # noqa: ARG002
        return frozenset()


class NoCancellation:
    requested = False

    @contextlib.contextmanager
    def on_request(self, stop: Any) -> Iterator[None]:  # noqa: ARG002
        yield


@dataclass
class Builder:
    """One machine: a plan, an engine, and the world that it shares with the others."""

    plan: Plan
    layout: Layout
    services: Services
    engine: TableEngine
    console: Lines
    trust: Trust

    @property
    def session(self) -> Session:
        return Session(self.plan, self.layout, self.services, self.trust)

    def tier(self, name: str = "arr-base") -> TierPlan:
        return self.plan.tiers[name]

    def make(self, name: str = "arr-base") -> ImageInfo:
        """Build a tier and say that it was verified, on this machine and in the cache."""
        tier = self.tier(name)
        image = self.engine.make(tier)
        keep_verdict(self.layout, image.id, tier.verify.check)
        verdict = f"verdicts/{image.id.removeprefix('sha256:')}/{tier.verify.check}.json"
        self.services.store.write(verdict, b'{"passed": true}')
        return image

    @property
    def said(self) -> str:
        return "\n".join(self.console.lines)


def builder(root: Path, host: str, cache: Path, *, trust: Trust | None = None, policy: RetryPolicy = QUICK) -> Builder:
    layout = Layout(root)
    plan = make_plan(load_repository(layout, None), DAY)
    engine, console = TableEngine(host, policy=policy), Lines()
    services = Services(
        engine=engine,
        store=DirectoryStore(cache),
        bucket_settings=lambda: None,
        registry=HttpRegistry(policy),
        git=GitRemotes(NoCancellation()),
        linter=Hadolint(),
        scanner=Trivy(),
        notary=Cosign(),
        console=console,
        locks=NoLocks(),
        cancel=NoCancellation(),
        user=(0, 0),
        now=lambda: 1000.0,
    )
    return Builder(plan, layout, services, engine, console, trust or Trust())


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def upload(host: str, repository: str, tag: str, config: bytes) -> str:
    """Push an image of one layer."""
    for blob in (config, layer_of(config)):
        status, headers, text = request(host, "POST", f"/v2/{repository}/blobs/uploads/")
        assert status == 202, text
        where = headers["location"].partition(host)[2] or headers["location"]
        sign = "&" if "?" in where else "?"
        status, _, text = request(host, "PUT", f"{where}{sign}digest={digest_of(blob)}", blob)
        assert status == 201, text
    body = manifest_of(config)
    status, headers, text = request(host, "PUT", f"/v2/{repository}/manifests/{tag}", body, {"Content-Type": SCHEMA2})
    assert status == 201, text
    return headers["docker-content-digest"]


def layer_of(config: bytes) -> bytes:
    return b"layer of " + config


def manifest_of(config: bytes) -> bytes:
    layer = layer_of(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": SCHEMA2,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(config),
            "digest": digest_of(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(layer),
                "digest": digest_of(layer),
            }
        ],
    }
    return json.dumps(manifest, indent=3).encode()


def main(root: str, host: str, cache: str, start: str) -> None:
    """Be one of several builders: push every tier, all beginning each tier at the same moment."""
    from imagetiers.operations.push import push_image  # noqa: PLC0415

    me = builder(Path(root), host, Path(cache), policy=PATIENT)
    results = {}
    for number, name in enumerate(me.plan.tiers):
        me.make(name)
        time.sleep(max(0.0, float(start) + number * 1.5 - time.time()))
        push_image(me.session, me.tier(name))
        image = me.engine.table[me.tier(name).ref]
        results[name] = [image.digests[-1], image.id]
    sys.stdout.write(json.dumps({"results": results, "said": me.said}) + "\n")


if __name__ == "__main__":
    os.environ.pop("http_proxy", None)
    main(*sys.argv[1:])
