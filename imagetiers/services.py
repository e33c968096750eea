"""What the operations need of the world, as small protocols; `adapters` and `stores` have the real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from imagetiers.events import Event
    from imagetiers.layers.archive import ImageFiles
    from imagetiers.layers.image_config import ImageConfig
    from imagetiers.layers.model import ReadOptions
    from imagetiers.planning.containers import BuildImage, Container
    from imagetiers.planning.observed import Absent, Answer, CacheRecord, ImageInfo, Present, Stored, Unknown
    from imagetiers.stores.port import BucketSettings, Store

__all__ = [
    "Bar",
    "Cancellation",
    "Console",
    "ContainerLoad",
    "ContainerState",
    "Engine",
    "EngineInfo",
    "Git",
    "Lint",
    "Linter",
    "Locks",
    "Notary",
    "OnLine",
    "Referrer",
    "Registry",
    "Scan",
    "Scanner",
    "Services",
]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the Docker daemon (not this machine) has: processors, memory in bytes, its version.

    `gpus`: whether it says that it can give GPUs of NVIDIA's to containers. `cpusets`: whether it can give them some of the
    processors alone. `compresses`: whether BuildKit compresses layers when it exports an image, as for containerd's image
    store; otherwise a push does.
    """

    version: str
    cpus: int
    memory: int
    gpus: bool = False
    cpusets: bool = False
    compresses: bool = False


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container that exists: whether it runs, and its exit code when it does not (-1: it has never been started)."""

    id: str
    name: str
    running: bool
    exit_code: int


@dataclass(frozen=True, slots=True)
class ContainerLoad:
    """What a running container takes: bytes of memory, and of how many; compilers behind our launcher, None without one."""

    memory: int
    memory_limit: int
    jobs: int | None = None
    waiting: int | None = None


OnLine = Callable[[str], None]


class Engine(Protocol):
    """A Docker engine with BuildKit. Every method may raise EngineError with the way out of what is wrong."""

    def info(self) -> EngineInfo:
        """Say what the daemon is and has."""
        ...

    def images(self) -> tuple[ImageInfo, ...]:
        """Return all images that carry our labels, in one request."""
        ...

    def has_image(self, ref: str) -> bool:
        """Say whether the engine holds an image of that reference or id."""
        ...

    def image_config(self, ref: str) -> ImageConfig:
        """Return how an image says that it is run."""
        ...

    def save(self, *refs: str) -> Iterator[bytes]:
        """Yield images as one archive, in pieces: what they share is in it once."""
        ...

    def layers(self, ref: str) -> tuple[str, ...]:
        """Return what an image's layers are called by their unpacked content, the first one first."""
        ...

    def build(self, build: BuildImage, context: Iterable[bytes], on_line: OnLine, seconds: float | None = None) -> None:
        """Build and tag an image; `context` is a tar in pieces. Raises BuildError when a step fails.

        After so many `seconds` it is ended: TimeoutError.
        """
        ...

    def tag(self, ref: str, tags: tuple[str, ...]) -> None:
        """Let `tags` point to the image `ref`."""
        ...

    def untag(self, ref: str) -> bool:
        """Remove a reference, and the image when it was the last one. Say whether there was one."""
        ...

    def stored(self) -> Stored:
        """Return all images, ours or not, with what they take, and which compiles have a container."""
        ...

    def build_cache(self) -> tuple[CacheRecord, ...]:
        """Return the layers that BuildKit keeps, of whoever builds on this engine."""
        ...

    def prune_build_cache(self, ids: Iterable[str]) -> frozenset[str]:
        """Let BuildKit forget these records, but for those that it still needs; return which are gone."""
        ...

    def push(self, ref: str, on_line: OnLine) -> str:
        """Push an image under its reference; return the manifest's digest. Raises RegistryError when it is refused."""
        ...

    def pull(self, ref: str, on_line: OnLine) -> None:
        """Pull `repository@digest`. Raises RegistryError."""
        ...

    def find_containers(self, label: str, value: str) -> tuple[ContainerState, ...]:
        """Return the containers with that label, running or not."""
        ...

    def start(self, container: Container, files: bytes | None = None, stdin: bytes | None = None) -> str:
        """Create and start a container, `files` (a tar) unpacked at its root first; return its id.

        `stdin` is what it reads there, to the end; should we die meanwhile, it meets the end early.
        """
        ...

    def load(self, container_id: str) -> ContainerLoad:
        """Say what a running container takes at this moment."""
        ...

    def follow(self, container_id: str, on_line: OnLine) -> int:
        """Pass on the container's output from its beginning until it ends; return its exit code."""
        ...

    def stop(self, container_id: str, grace: int) -> None:
        """End a container: SIGTERM, SIGKILL after `grace` seconds. One that is gone is no error."""
        ...

    def remove(self, container_id: str) -> None:
        """Remove a container, running or not. One that is gone is no error."""
        ...


@dataclass(frozen=True, slots=True)
class Referrer:
    """Something that is attached to an image: its manifest's digest, and the type of what it is."""

    digest: str
    kind: str


class Registry(Protocol):
    """A registry of images (OCI distribution). References are `host/repository:tag` or `host/repository@digest`.

    Queries return Unknown where nobody answers, after retries; commands raise RegistryError.
    """

    def look_up(self, refs: Iterable[str]) -> Mapping[str, Answer]:
        """Ask for all of them at once, in parallel."""
        ...

    def describe(self, found: Mapping[str, Present]) -> Mapping[str, ImageInfo | Unknown]:
        """Read the labels of what `look_up` has found, in parallel; what has none (a list of manifests) is left out."""
        ...

    def tags(self, repository: str) -> tuple[str, ...] | Unknown:
        """Return the tags of a repository; none when there is no such repository."""
        ...

    def read_image(self, ref: str, wanted: ReadOptions) -> ImageFiles:
        """Read the configuration and the files of `repository@digest`; nothing is kept."""
        ...

    def set_tag(self, ref: str, digest: str, source: str = "") -> None:
        """Let the tag `ref` point to a manifest of the repository `source`, or of its own, and read it back.

        From another repository the very same manifest is copied, after what it refers to; as `repository@digest` it has no tag
        there. Raises TagMovedError.
        """
        ...

    def referrers(self, ref: str) -> tuple[Referrer, ...] | Unknown:
        """Return what is attached to `repository@digest` (OCI 1.1), by the registry's list or the tag in its place."""
        ...

    def attach(self, ref: str, media_type: str, content: bytes, annotations: Mapping[str, str]) -> str:
        """Attach a document to `repository@digest`, once; return the digest of its manifest."""
        ...

    def attached(self, ref: str) -> bytes:
        """Return the document of an attachment, `repository@digest` being its manifest."""
        ...


class Git(Protocol):
    """Git repositories, by URL. Queries return Unknown where nobody answers."""

    def look_up(self, url: str, refs: Iterable[str]) -> Mapping[str, str | Absent | Unknown]:
        """Return the commits of a repository's tags and branches (a tag first, as git does), in one request."""
        ...


@dataclass(frozen=True, slots=True)
class Lint:
    """What a linter says of a line: its code (DL3008), its level (error, warning, info, style), and the message."""

    code: str
    level: str
    line: int
    message: str


class Linter(Protocol):
    """A linter of Dockerfiles. Queries return Unknown where it is not there or cannot be run."""

    def version(self) -> str | Unknown:
        """Say which one there is."""
        ...

    def lint(self, texts: Iterable[bytes], config: bytes | None) -> tuple[tuple[Lint, ...], ...] | Unknown:
        """Return what it says of each Dockerfile, under a configuration file's text or none."""
        ...


@dataclass(frozen=True, slots=True)
class Scan:
    """A scanner's own report, the scanner (`trivy 0.76.0`), and the moment (ISO 8601) of the database that it had."""

    scanner: str
    database: str
    report: bytes


class Scanner(Protocol):
    """A scanner for known vulnerabilities. Queries return Unknown where it is not there, or has no database."""

    def sbom(self, archive: Iterable[bytes]) -> bytes | Unknown:
        """Return what an image is made of, as CycloneDX, from the archive that the engine saves."""
        ...

    def spdx(self, sbom: bytes) -> bytes | Unknown:
        """Return a CycloneDX document as SPDX."""
        ...

    def scan(self, sbom: bytes, database: Path, vex: Iterable[bytes]) -> Scan | Unknown:
        """Hold an SBOM against the database of a folder; the statements of `vex` (OpenVEX) take away what they rule out."""
        ...


class Notary(Protocol):
    """Who signs images in the registry, and checks signatures there. Keys are files, or those of a KMS.

    Images are `repository@digest`. Queries return Unknown where it is not installed or somebody does not answer; commands
    raise RegistryError.
    """

    def cannot_sign(self, key: str) -> str:
        """Say why this build cannot sign what that public key is for; '' where it can."""
        ...

    def sign(self, image: str) -> None:
        """Sign an image with the key of this build."""
        ...

    def attest(self, image: str, predicate_type: str, predicate: bytes) -> None:
        """Sign a statement of an image in the place of an earlier one of that type; `predicate` is JSON."""
        ...

    def signed(self, image: str, key: str) -> bool | Unknown:
        """Say whether a public key's owner has signed an image."""
        ...

    def attested(self, image: str, predicate_type: str, key: str) -> tuple[bytes, ...] | Unknown:
        """Return the statements of that type which the key's owner has signed of an image, as JSON."""
        ...


class Bar(Protocol):
    """A bar on a terminal; now and then a line elsewhere."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """Say how far it is. `total` may still change."""
        ...


class Console(Protocol):
    """Where people read."""

    def line(self, text: str) -> None:
        """Print a line."""
        ...

    def progress(self, title: str, log: Path | None = None) -> AbstractContextManager[Bar]:
        """Open a progress display of that title; it closes with the block. `log` is where its lines are written meanwhile."""
        ...

    def write(self, text: str, *, error: bool = False) -> None:
        """Write text as it is, to stdout or (`error`) to stderr, where it disturbs nothing that is shown."""
        ...

    def print(self, renderable: object) -> None:
        """Print something that rich knows how to lay out, such as a table."""
        ...

    def live(self) -> AbstractContextManager[Callable[[object], None]]:
        """For the block, return what shows such things each in the place of the one before."""
        ...


class Locks(Protocol):
    """Locks between processes, given back by the kernel when their holder dies."""

    def hold(
        self, name: str, purpose: str, left: Callable[[], float | None] = lambda: None
    ) -> AbstractContextManager[None]:
        """Hold the lock of that name for the block; while somebody else has it, say who and wait.

        Raises LockedError when `left` says that no seconds are left, Interrupted when somebody asks to stop.
        """
        ...

    def held(self, folder: Path | None = None) -> frozenset[str]:
        """Return the names of the locks that somebody holds at this moment, this process included.

        With a `folder`, of those that builds of another branch keep there.
        """
        ...


class Cancellation(Protocol):
    """Ctrl-C and SIGTERM, told to whoever must end something."""

    @property
    def requested(self) -> bool:
        """Whether somebody asked to stop."""
        ...

    def on_request(self, stop: Callable[[], None]) -> AbstractContextManager[None]:
        """While the block runs, call `stop` (from another thread) when somebody asks to stop."""
        ...


@dataclass(frozen=True)
class Services:
    """All that the operations reach outside of the process, in one value. `events` is told what happens.

    `worker` says what records call the machine, or the service, that this runs on, and `run` names this doit, or the build that
    it is a step of, for them. `run_program` runs a program of the user's,
    passes its lines on and returns its exit code, None where it is not on the PATH. `confirm` asks whoever sits there, and
    returns None where nobody does.
    """

    engine: Engine
    store: Store
    registry: Registry
    git: Git
    linter: Linter
    scanner: Scanner
    notary: Notary
    console: Console
    locks: Locks
    cancel: Cancellation
    bucket_settings: Callable[[], BucketSettings | None]
    user: tuple[int, int]
    now: Callable[[], float]
    events: Callable[[Event], None] = lambda _event: None
    worker: Callable[[], str] = lambda: ""
    run: str = ""
    run_program: Callable[[tuple[str, ...], OnLine], int | None] = lambda _command, _on_line: None
    confirm: Callable[[str], bool | None] = lambda _question: None
