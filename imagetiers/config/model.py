"""The pipeline as values. Made by `config.py` from pipeline.yaml; everything else reads these and never sees a dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagetiers.config.checks import Checks
from imagetiers.config.layout import DOCKERFILE, IMAGES
from imagetiers.naming import ending_in_hash

if TYPE_CHECKING:
    from imagetiers.config.gpus import Architecture

__all__ = [
    "ARCH_LIST_ARG",
    "DOIT_VARIABLES",
    "MOST_ANCESTORS",
    "NOTHING_GIVEN",
    "ONLY_WHEELS",
    "PARENT_ARG",
    "REFRESH_ARG",
    "SSH_AGENT",
    "Budget",
    "BuildFolderSettings",
    "CcacheSettings",
    "CloudBuild",
    "CloudBuildKeys",
    "CompileStep",
    "GitRef",
    "MadeFiles",
    "NamedContext",
    "Pipeline",
    "Refresh",
    "ScanClass",
    "ScanPolicy",
    "Secret",
    "SignedParents",
    "SupplyChain",
    "Tier",
    "Trust",
    "TrustSettings",
    "TrustedKey",
    "Verify",
    "Waiver",
    "branch_name",
]

# Build arguments that the plan sets: the parent's image, and the calendar period of a tier with `refresh`.
PARENT_ARG = "PARENT"
REFRESH_ARG = "REFRESH_EPOCH"
ARCH_LIST_ARG = "TORCH_CUDA_ARCH_LIST"
"""The build argument and the variable of the environment by which PyTorch's builds are told what to compile for."""

ONLY_WHEELS = ("*.whl",)  # what a compile step leaves, unless it says otherwise
SSH_AGENT = "default"  # the agent that SSH_AUTH_SOCK names
MOST_ANCESTORS = 100  # an image has at most 127 layers, and each tier adds some
# Variables of doit's command line that pipeline.yaml has nothing to do with.
DOIT_VARIABLES = ("variant", "trust", "branch")
NOTHING_GIVEN: Mapping[str, str] = MappingProxyType({})
_BRANCH_MAX = 30


def _none() -> Mapping[str, str]:
    return MappingProxyType({})


class Refresh(Enum):
    """How often a tier is rebuilt although nothing of ours changed, so that the distribution's updates arrive."""

    NEVER = "never"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True)
class CcacheSettings:
    """One compile step's use of ccache. `max_size` in bytes, `min_hit_rate` a fraction of the cacheable calls.

    `checkpoint_minutes` is how often a running compile pushes what it has won. `per_arch` says that CUDA code is to be
    cached for each architecture by itself: the step's program finds it as NVCC_PER_ARCH (1 or 0).
    """

    max_size: int
    min_hit_rate: float = 0.0
    strict: bool = False
    checkpoint_minutes: float = 5.0
    per_arch: bool = True


@dataclass(frozen=True, slots=True)
class BuildFolderSettings:
    """What a compile step may keep of the folder that it builds in: so many bytes of one, and so many of the newest."""

    max_size: int
    keep: int = 2


@dataclass(frozen=True, slots=True)
class CompileStep:
    """A Dockerfile stage that runs as a container with the ccache directory mounted, and produces wheels or other `outputs`.

    `job_memory` is what a compiler job may need of which nothing is known, in bytes; it bounds MAX_JOBS. `memory` is the
    container's limit in bytes, None: it may have all that the daemon has.
    `cuda` is the version of the CUDA toolkit in the stage, None where its base image says it.
    `share_layers`: the stage's image is kept in the registry, for the layers of other workers. `build_folder`: what it builds
    in is kept in the cache, None: it is not. `outputs` are patterns of what is kept, in order; `wheels_stage` is what that
    stands in for. `ccache` is None where the step has no compiler cache.
    """

    stage: str
    run: tuple[str, ...]
    wheels_stage: str
    job_memory: int
    ccache: CcacheSettings | None
    cuda: str | None = None
    memory: int | None = None
    share_layers: bool = False
    build_folder: BuildFolderSettings | None = None
    outputs: tuple[str, ...] = ONLY_WHEELS

    @property
    def made(self) -> str:
        """What messages call that which it makes."""
        return "wheels" if self.outputs == ONLY_WHEELS else "outputs"


@dataclass(frozen=True, slots=True)
class Verify:
    """What a built image must be. `checks` are what is declared, `declared` the same as JSON text; `params` are verify.py's.

    `timeout` is how many seconds a verify of the tier may take in all, what its parents ask included. `other_device_code` are
    patterns of the paths of libraries that others have compiled for GPUs.
    """

    checks: Checks = field(default_factory=Checks)
    declared: str = "{}"
    params: str = "{}"
    timeout: int = 1800
    other_device_code: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that a built image must keep, in bytes, uncompressed; None: there is none.

    `growth` is against the image that the registry's friendly tag points to, or the one before; `layer` is for each layer
    that the pipeline's own Dockerfiles make, and `duplicate_bytes` for what these make stand in the image twice.
    """

    size: int | None = None
    growth: int | None = None
    layer: int | None = None
    duplicate_bytes: int | None = None

    @property
    def reads_layers(self) -> bool:
        """Whether the image's layers must be read for them."""
        return self.layer is not None or self.duplicate_bytes is not None

    @property
    def limits(self) -> tuple[int | None, ...]:
        """All of them."""
        return (self.size, self.growth, self.layer, self.duplicate_bytes)

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of those that there are."""
        names = ("size", "growth", "layer", "duplicate_bytes")
        return tuple(name for name, limit in zip(names, self.limits, strict=True) if limit is not None)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of image builds and compiles: its id, and the environment variable or file that holds it on this machine.

    `ssh` is none that has a value: SSH_AGENT, or the path of an agent's socket or of a private key, for image builds alone.
    """

    id: str
    env: str | None = None
    file: str | None = None
    ssh: str | None = None


@dataclass(frozen=True, slots=True)
class GitRef:
    """A tag, branch or commit of a git repository, by its URL."""

    git: str
    ref: str

    @property
    def name(self) -> str:
        """How pipeline.lock.yaml calls it."""
        return f"{self.git}#{self.ref}"

    @property
    def fixed(self) -> bool:
        """Whether the ref is a commit itself, so that there is nothing to resolve."""
        return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.ref) is not None


@dataclass(frozen=True, slots=True)
class MadeFiles:
    """Where a tier's files go that makes no image: `type` is local (a folder), tar or oci (archives), `dest` from the root."""

    type: str
    dest: str

    @property
    def runs(self) -> bool:
        """Whether it is an image all the same, which somebody will run."""
        return self.type == "oci"


@dataclass(frozen=True, slots=True)
class NamedContext:
    """What a Dockerfile takes from by a name of pipeline.yaml's, as by that of a stage. One of the three is set.

    `tier` is another tier, of which it is the image; `path` a folder, from the repository's root; `image` an outside image's
    reference.
    """

    tier: str | None = None
    path: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Tier:
    """One image of the chain. It has at least one of `parent`, `bases` and `contexts`.

    `folder` lies in `images/`, None: it has the tier's name; `dockerfile` is a file of it.
    `network` is what its builds and its compile may reach: "none", "host", or None for the usual. `tags` move as `tag` does,
    and `image` is the repository instead of the usual one. `labels` are those that it has beside the Dockerfile's. With
    an `output` it makes files and no image.
    """

    name: str
    tag: str
    folder: str | None = None
    dockerfile: str = DOCKERFILE
    parent: str | None = None
    bases: Mapping[str, str] = field(default_factory=_none)
    args: Mapping[str, str] = field(default_factory=_none)
    sources: Mapping[str, GitRef] = field(default_factory=lambda: MappingProxyType({}))
    target: str | None = None
    compile: CompileStep | None = None
    verify: Verify = field(default_factory=Verify)
    budget: Budget = field(default_factory=Budget)
    refresh: Refresh = Refresh.NEVER
    secrets: tuple[Secret, ...] = ()
    network: str | None = None
    tags: tuple[str, ...] = ()
    image: str | None = None
    labels: Mapping[str, str] = field(default_factory=_none)
    output: MadeFiles | None = None
    contexts: Mapping[str, NamedContext] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def made_from(self) -> tuple[str, ...]:
        """The tiers that it names: its parent first, and those of its contexts."""
        parent = () if self.parent is None else (self.parent,)
        return (*parent, *(context.tier for context in self.contexts.values() if context.tier is not None))

    @property
    def outside(self) -> frozenset[str]:
        """The outside images that it names."""
        named = {context.image for context in self.contexts.values() if context.image is not None}
        return frozenset({*self.bases.values(), *named})

    @property
    def folder_path(self) -> str:
        """The path of its folder in the repository."""
        return f"{IMAGES}/{self.folder or self.name}"

    @property
    def dockerfile_path(self) -> str:
        """The path of its Dockerfile in the repository."""
        return f"{self.folder_path}/{self.dockerfile}"


def branch_name(branch: str) -> str:
    """Return a branch as it stands in names: at most 30 lower-case letters, digits, dots and hyphens.

    Whatever is lost by that is made up for by a hash, so that two branches never have one name.
    """
    name = re.sub(r"[^a-z0-9.-]+", "-", branch.lower())
    if name == branch and len(name) <= _BRANCH_MAX:
        return name
    return ending_in_hash(name, branch, _BRANCH_MAX)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose build this is: untrusted ones (pull requests) read what trusted ones wrote, and write only their own.

    `branch` is a line of work; main's cache is read through by all of them.
    """

    trusted: bool = True
    branch: str = "main"

    @property
    def level(self) -> str:
        """How names of namespaces and objects call it."""
        return "trusted" if self.trusted else "untrusted"

    @property
    def label(self) -> str:
        """How an image says whose build it is of."""
        return self.level if self.trusted else f"{self.level}/{self.branch}"

    @property
    def prefix(self) -> str:
        """What the names of objects that this build writes begin with; nothing for a trusted one."""
        return "" if self.trusted else f"untrusted/{self.branch}/"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key whose signatures count: its name, its 32 bytes in Base64, and the day (UTC) from which it does not."""

    name: str
    ed25519: str
    revoked: str | None = None


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """Whose signatures a pipeline believes. With `require`, what trusted builds share counts only when it is signed.

    A head that was signed more than `max_age` seconds ago counts as none then; None: there is no such limit.
    """

    keys: tuple[TrustedKey, ...] = ()
    require: bool = False
    max_age: int | None = None


@dataclass(frozen=True, slots=True)
class ScanClass:
    """What packages of a class (the distribution's, Python's) may have otherwise than all others; None: as they."""

    fail_on: str | None = None
    unfixed: bool | None = None


@dataclass(frozen=True, slots=True)
class ScanPolicy:
    """Which known vulnerabilities an image may have: those below `fail_on`, and without `unfixed` those that nobody has fixed.

    `database` is a folder of trivy's, which is not believed when it is more than `max_age` seconds old. `vex` are files of
    OpenVEX statements. Paths are relative to pipeline.yaml. `classes` say otherwise of packages of some class.
    """

    database: str
    fail_on: str = "high"
    unfixed: bool = False
    max_age: int = 7 * 86_400
    vex: tuple[str, ...] = ()
    classes: Mapping[str, ScanClass] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, name: str) -> tuple[str, bool]:
        """Return `fail_on` and `unfixed` as they are for packages of a class."""
        own = self.classes.get(name, ScanClass())
        return own.fail_on or self.fail_on, self.unfixed if own.unfixed is None else own.unfixed


@dataclass(frozen=True, slots=True)
class SignedParents:
    """Images that a tier may be built from only when one of the `keys` has signed them.

    `images` is a pattern of outside images, `tiers` one of parents in the registry; one of the two is None. `where` is the
    rule's own place in pipeline.yaml.
    """

    keys: tuple[str, ...]
    images: str | None = None
    tiers: str | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class SupplyChain:
    """What a push publishes beside an image. `keys` are cosign's public ones by name: a file beside pipeline.yaml, or a KMS's.

    `sign` is the one that trusted builds sign with, None: they sign nothing. `attach` names what is attached, `builder` is what
    provenance calls the platform that builds. `require_signed_parents` says what images may be built from.
    """

    keys: Mapping[str, str] = field(default_factory=_none)
    sign: str | None = None
    attach: tuple[str, ...] = ("provenance", "cyclonedx", "spdx")
    require_signed_parents: tuple[SignedParents, ...] = ()
    builder: str = "https://imagetiers.dev/builder"


@dataclass(frozen=True, slots=True)
class Waiver:
    """Why what a `rule` of ours, or one of `hadolint`'s, has found may stay, or a `vulnerability`; of one `tier`, or of all.

    A tier with a matrix is all of its `cells`.
    `until` is the last day (UTC) on which it may, `where` the waiver's own place in pipeline.yaml.
    """

    reason: str
    until: str
    rule: str | None = None
    hadolint: str | None = None
    vulnerability: str | None = None
    tier: str | None = None
    where: str = ""
    cells: tuple[str, ...] = ()

    def is_for(self, tier: str) -> bool:
        """Say whether it is for a tier."""
        return self.tier in {None, tier} or tier in self.cells


@dataclass(frozen=True, slots=True)
class CloudBuildKeys:
    """What trusted builds sign with: ids of secrets in Secret Manager, or addresses of keys in a KMS. None: nothing.

    `signing` is for the cache, `cosign` for images, and `cosign_password` opens the latter.
    """

    signing: str | None = None
    cosign: str | None = None
    cosign_password: str | None = None


@dataclass(frozen=True, slots=True)
class CloudBuild:
    """How Google Cloud Build runs the pipeline. Durations in seconds, `disk` in GB.

    With a private `pool`, which has a machine and a disk of its own, `machine` and `disk` mean nothing. `usd_per_hour` is
    what the machine costs, None: nobody has said it; `processors` how many it has, None: its name says it, or nobody knows.
    """

    builder: str
    timeout: int = 5 * 3600
    compile_timeout: int = 4 * 3600
    machine: str = "E2_HIGHCPU_32"
    disk: int = 200
    pool: str | None = None
    service_account: str = "imagetiers-build@$PROJECT_ID.iam.gserviceaccount.com"
    pr_service_account: str = "imagetiers-pr@$PROJECT_ID.iam.gserviceaccount.com"
    logs: str | None = None
    queue_ttl: int = 3600
    substitutions: Mapping[str, str] = field(default_factory=_none)
    usd_per_hour: float | None = None
    processors: int | None = None
    keys: CloudBuildKeys = field(default_factory=CloudBuildKeys)

    @property
    def cpus(self) -> int:
        """How many processors the machine has, 0 where nobody has said it: E2_MEDIUM shares its own."""
        _, _, number = self.machine.rpartition("_")
        named = int(number) if number.isdigit() and self.pool is None else 0
        return self.processors or named

    @property
    def worker(self) -> str:
        """What people call the machine."""
        return self.machine if self.pool is None else self.pool.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The whole of pipeline.yaml with one variant applied. `tiers` keeps the order of the file.

    `groups` are the tiers that doit has further names for; `given` are the variables that its command line gave.
    `channels` is where the registry's friendly tags are kept, when they lie apart from the tags by key.
    `scan` is None where images are pushed without a look at their vulnerabilities, `supply_chain` where nothing is published
    beside them. `compression` is how an engine that can choose compresses new layers: "gzip" or "zstd".
    `hadolint` says whether hadolint looks at the Dockerfiles: "if-installed", "required" or "off".
    `gpus` are those that the images must run on, `architectures` what is compiled for, `cuda` the toolkit that does it (None:
    nobody says which). What pipeline.lock.yaml says: `pins` are digests by image reference, `commits` are by `GitRef.name`.
    """

    name: str
    variant: str | None
    registry: str | None
    cache: str
    platform: str
    gpus: tuple[str, ...]
    architectures: tuple[Architecture, ...]
    tiers: Mapping[str, Tier]
    cloudbuild: CloudBuild
    pins: Mapping[str, str] = field(default_factory=_none)
    commits: Mapping[str, str] = field(default_factory=_none)
    channels: str | None = None
    trust: TrustSettings = field(default_factory=TrustSettings)
    compression: str = "gzip"
    hadolint: str = "if-installed"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    given: Mapping[str, str] = field(default_factory=_none)
    waivers: tuple[Waiver, ...] = ()
    scan: ScanPolicy | None = None
    supply_chain: SupplyChain | None = None
    cuda: tuple[int, int] | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        """What doit's command line says to come to this pipeline, beside whose build it is."""
        variant = (f"variant={self.variant}",) if self.variant is not None else ()
        return (*variant, *(f"{name}={value}" for name, value in self.given.items()))

    @property
    def arch_list(self) -> str:
        """What PyTorch's builds are told, as TORCH_CUDA_ARCH_LIST; empty where nothing is compiled for a GPU."""
        from imagetiers.config.gpus import arch_list

        return arch_list(self.architectures)

    def commit(self, source: GitRef) -> str | None:
        """Return the commit that a git ref is, None when nothing pins it."""
        return source.ref if source.fixed else self.commits.get(source.name)

    def order(self) -> tuple[Tier, ...]:
        """Return the tiers in the order of the file, but each behind those that it is made from, which form no circle."""
        done: dict[str, Tier] = {}

        def visit(tier: Tier) -> None:
            if tier.name in done:
                return
            for name in tier.made_from:
                visit(self.tiers[name])
            done[tier.name] = tier

        for tier in self.tiers.values():
            visit(tier)
        return tuple(done.values())

    def ancestry(self, name: str) -> tuple[Tier, ...]:
        """Return the chain that ends in tier `name`, eldest first."""
        tier = self.tiers[name]
        return (*(self.ancestry(tier.parent) if tier.parent else ()), tier)
