"""All that is behind Services, as tables: an engine that builds, compiles and checks in no time, and a registry beside it."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from imagetiers.adapters.cosign import Cosign
from imagetiers.adapters.git import GitRemotes
from imagetiers.adapters.hadolint import Hadolint
from imagetiers.adapters.trivy import Trivy
from imagetiers.errors import EngineError, RegistryError
from imagetiers.layers.archive import ImageFiles
from imagetiers.layers.image_config import ImageConfig
from imagetiers.layers.model import ReadOptions
from imagetiers.planning.containers import BindMount, BuildImage, Container
from imagetiers.planning.labels import Label
from imagetiers.planning.observed import Absent, Answer, CacheRecord, ImageInfo, Present, Stored, StoredImage, Unknown
from imagetiers.services import ContainerLoad, ContainerState, EngineInfo, OnLine, Referrer, Services
from imagetiers.stores.port import Store
from tests.registry.harness import Lines, NoCancellation, NoLocks

HOST = "registry.test"


def sha256(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass
class FakeRegistry:
    """Repositories with tags and manifests; a manifest is an image. `silent` are references that nobody tells about."""

    manifests: dict[str, dict[str, ImageInfo]] = field(default_factory=dict)
    pointers: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)

    def put(self, repository: str, image: ImageInfo) -> str:
        digest = sha256(f"manifest of {image.id}")
        self.manifests.setdefault(repository, {})[digest] = image
        return digest

    def _find(self, ref: str) -> Answer:
        if ref in self.silent:
            return Unknown(f"{ref}: 503")
        repository, at, digest = ref.partition("@")
        if not at:
            repository, digest = ref.rpartition(":")[0], self.pointers.get(ref, "")
        image = self.manifests.get(repository, {}).get(digest)
        return Present(digest, image.id, image.size) if image is not None else Absent()

    def look_up(self, refs: Iterable[str]) -> Mapping[str, Answer]:
        return {ref: self._find(ref) for ref in refs}

    def describe(self, found: Mapping[str, Present]) -> Mapping[str, ImageInfo | Unknown]:
        return {
            ref: self.manifests[ref.partition("@")[0] if "@" in ref else ref.rpartition(":")[0]][answer.digest]
            for ref, answer in found.items()
        }

    def tags(self, repository: str) -> tuple[str, ...] | Unknown:
        return tuple(ref.rpartition(":")[2] for ref in self.pointers if ref.rpartition(":")[0] == repository)

    def read_image(self, ref: str, wanted: ReadOptions) -> ImageFiles:  # noqa: ARG002
        raise AssertionError(f"nothing is declared of {ref}")

    def referrers(self, ref: str) -> tuple[Referrer, ...] | Unknown:  # noqa: ARG002
        return ()

    def attach(self, ref: str, *_: object) -> str:
        raise AssertionError(f"nothing is attached to {ref}")

    def attached(self, ref: str) -> bytes:
        raise AssertionError(f"nothing is attached to {ref}")

    def set_tag(self, ref: str, digest: str, source: str = "") -> None:
        repository = ref.rpartition(":")[0]
        self.manifests.setdefault(repository, {})[digest] = self.manifests[source or repository][digest]
        self.pointers[ref] = digest


@dataclass
class FakeEngine:
    """Images by id, and references to them. What it is asked to run ends at once, and well but for checks of `broken`.

    `builders` are compile keys by image; `layers_of` it are chain IDs with bytes, and `cached` what BuildKit keeps of them.
    """

    registry: FakeRegistry
    down: bool = False
    byid: dict[str, ImageInfo] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    started: dict[str, Container] = field(default_factory=dict)
    builders: dict[str, str] = field(default_factory=dict)
    layers_of: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    cached: dict[str, int] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def _up(self) -> None:
        if self.down:
            raise EngineError.of("docker", "no Docker daemon is here")

    def info(self) -> EngineInfo:
        self._up()
        return EngineInfo("26.1.5", cpus=2, memory=8 << 30)

    def images(self) -> tuple[ImageInfo, ...]:
        self._up()
        return tuple(
            replace(image, refs=tuple(ref for ref, to in self.refs.items() if to == id_))
            for id_, image in self.byid.items()
            if image.key
        )

    def has_image(self, ref: str) -> bool:
        self._up()
        return ref in self.refs

    def image_config(self, ref: str) -> ImageConfig:
        raise AssertionError(f"nothing is declared of {ref}")

    def add(self, image: ImageInfo, *refs: str) -> None:
        self.byid[image.id] = image
        self.refs |= dict.fromkeys(refs, image.id)

    def build(self, build: BuildImage, context: Iterable[bytes], on_line: OnLine, seconds: float | None = None) -> None:  # noqa: ARG002
        self._up()
        assert b"".join(context)
        parent = build.args.get("PARENT")
        assert parent is None or parent in self.refs or "@" in parent, f"{build.tags[0]} is built before {parent}"
        on_line("#1 DONE")
        labels = build.labels
        image = ImageInfo(
            sha256(f"built {next(self.numbers)}"), (), labels.get(Label.PIPELINE, ""), labels.get(Label.VARIANT, ""),
            labels.get(Label.TIER, ""), labels.get(Label.KEY, ""), 2000, 100, labels.get(Label.KEY_DOCUMENT, ""),
            labels.get(Label.TRUST, ""),
        )  # fmt: skip
        self.add(image, *build.tags)
        if Label.COMPILE_KEY in labels:
            self.builders[image.id] = labels[Label.COMPILE_KEY]
        below = self.layers_of.get(self.refs.get(parent or "", ""), ())
        self.layers_of[image.id] = (*below, (f"layer of {image.id}", 100))
        self.cached |= dict(self.layers_of[image.id])
        self.made.append(f"image:{image.tier}" if image.tier else "builder")

    def tag(self, ref: str, tags: tuple[str, ...]) -> None:
        self._up()
        self.refs |= dict.fromkeys(tags, self.refs[ref])

    def save(self, *refs: str) -> Iterator[bytes]:
        raise NotImplementedError

    def layers(self, ref: str) -> tuple[str, ...]:
        raise NotImplementedError

    def stored(self) -> Stored:
        self._up()
        used = {container.image for container in self.started.values()}
        images = []
        for id_, image in self.byid.items():
            refs = tuple(ref for ref, to in self.refs.items() if to == id_)
            if refs:
                layers, compiled = self.layers_of.get(id_, ()), self.builders.get(id_, "")
                held = bool(used & {*refs, id_})
                images.append(StoredImage(replace(image, refs=refs), compiled, float(image.created), layers, held))
        labels = [container.labels for container in self.started.values()]
        return Stored(tuple(images), frozenset(each[Label.COMPILE_KEY] for each in labels if Label.COMPILE_KEY in each))

    def build_cache(self) -> tuple[CacheRecord, ...]:
        self._up()
        shared = {chain for id_ in self.refs.values() for chain, _ in self.layers_of.get(id_, ())}
        return tuple(CacheRecord(chain, size, chain in shared) for chain, size in self.cached.items())

    def prune_build_cache(self, ids: Iterable[str]) -> frozenset[str]:
        shared = {record.id for record in self.build_cache() if record.shared}
        gone = frozenset(ids) - shared
        self.cached = {chain: size for chain, size in self.cached.items() if chain not in gone}
        return gone

    def untag(self, ref: str) -> bool:
        self._up()
        return self.refs.pop(ref, None) is not None

    def push(self, ref: str, on_line: OnLine) -> str:
        self._up()
        on_line("layer Pushed")
        repository = ref.rpartition(":")[0]
        image = self.byid[self.refs[ref]]
        digest = self.registry.put(repository, image)
        self.registry.pointers[ref] = digest
        self.byid[image.id] = replace(image, digests=(*image.digests, f"{repository}@{digest}"))
        self.made.append(f"push:{image.tier}")
        return digest

    def pull(self, ref: str, on_line: OnLine) -> None:
        self._up()
        on_line("layer Pull complete")
        repository, _, digest = ref.partition("@")
        image = self.registry.manifests.get(repository, {}).get(digest)
        if image is None:
            raise RegistryError.of(ref, "there is no such image")
        known = self.byid.get(image.id, image)
        self.add(replace(known, digests=(*known.digests, ref)), ref)
        self.made.append(f"pull:{image.tier}")

    def find_containers(self, label: str, value: str) -> tuple[ContainerState, ...]:  # noqa: ARG002
        self._up()
        return ()

    def start(self, container: Container, files: bytes | None = None, stdin: bytes | None = None) -> str:  # noqa: ARG002
        self._up()
        id_ = f"container-{next(self.numbers)}"
        self.started[id_] = container
        return id_

    def follow(self, container_id: str, on_line: OnLine) -> int:
        container = self.started[container_id]
        if "IMAGETIERS_MARK" in container.env:
            mark = container.env["IMAGETIERS_MARK"]
            for tier in container.env["IMAGETIERS_VERIFY"].split():
                found = ("FAIL it is not", 1) if tier in self.broken else ("ok   it is well", 0)
                for line in (f"{mark} begin {tier}", found[0], f"{mark} end {found[1]}"):
                    on_line(line)
            on_line(f"{mark} done")
            self.made.append(f"verify:{container.labels[Label.TIER]}")
        for mount in container.mounts:
            if isinstance(mount, BindMount) and mount.target == "/wheels":
                (mount.source / "tiny-1-py3-none-any.whl").write_text("a wheel")
                self.made.append("compile")
        return 0

    def load(self, container_id: str) -> ContainerLoad:  # noqa: ARG002
        return ContainerLoad(1 << 30, 4 << 30, jobs=2, waiting=1)

    def stop(self, container_id: str, grace: int) -> None:
        pass

    def remove(self, container_id: str) -> None:
        del self.started[container_id]


class Shown(Lines):
    """A console that keeps lines, and tables as wide text."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[str] = []

    def print(self, renderable: object) -> None:
        text = io.StringIO()
        Console(file=text, width=1000, force_terminal=False, highlight=False).print(renderable)
        self.tables.append(text.getvalue())


def services(engine: FakeEngine, store: Store, console: Shown) -> Services:
    return Services(
        engine=engine,
        store=store,
        bucket_settings=lambda: None,
        registry=engine.registry,
        git=GitRemotes(NoCancellation(), seconds=5),
        linter=Hadolint(),
        scanner=Trivy(),
        notary=Cosign(),
        console=console,
        locks=NoLocks(),
        cancel=NoCancellation(),
        user=(0, 0),
        now=lambda: 3000.0,
    )


def write_tier(
    root: Path, name: str, *, compiles: bool, checked: bool, parent: str | None, in_parent: bool = False
) -> dict[str, object]:
    """Write a tier's folder; return its part of pipeline.yaml. With `in_parent` it compiles in its parent's image, if any."""
    folder = root / "images" / name
    folder.mkdir(parents=True)
    (folder / "motd").write_text(f"of {name}\n")
    (folder / ".image-manifest").write_text("motd\n")
    base = "${PARENT}" if parent else "${BASE}"
    tools = "${PARENT}" if parent and in_parent else "${TOOLS}"
    lines = [f"ARG {'PARENT' if parent else 'BASE'}", "ARG TOOLS", f"FROM {tools} AS builder", "COPY motd /src/"]
    lines += ["FROM scratch AS wheels", "COPY --from=builder /wheels/ /", f"FROM {base} AS runtime"]
    lines += ["RUN --mount=type=bind,from=wheels,target=/wheels true"] if compiles else []
    (folder / "Dockerfile").write_text("\n".join([*lines, "COPY motd /etc/motd", ""]))
    tier: dict[str, object] = {"parent": parent} if parent else {}
    bases = {} if parent else {"BASE": "debian:trixie-slim"}
    if compiles:
        tier["compile"] = {"stage": "builder", "run": ["true"], "ccache": {"max_size": "100M"}}
    tier["bases"] = {**bases, "TOOLS": "debian:trixie-slim"}
    if checked:
        (folder / "verify.py").write_text("print('ok')\n")
    return tier


def write_pipeline(root: Path, tiers: Mapping[str, object], *, registry: bool) -> None:
    document = {"version": 1, "name": "tiny", **({"registry": HOST} if registry else {}), "tiers": tiers}
    (root / "pipeline.yaml").write_text(json.dumps(document))
    (root / "pipeline.lock.yaml").write_text(f"images:\n  debian:trixie-slim: {sha256('debian')}\n")
