"""The pipeline as values. Made by `config.py` from pipeline.yaml; everything else reads these and never sees a dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

__all__ = [
    "Budget",
    "CcacheSettings",
    "CloudBuild",
    "CompileStep",
    "Pipeline",
    "Refresh",
    "Secret",
    "Tier",
    "Trust",
    "Verify",
]


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

    `checkpoint_minutes` is how often a running compile pushes what it has won.
    """

    max_size: int
    min_hit_rate: float = 0.0
    strict: bool = False
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True, slots=True)
class CompileStep:
    """A Dockerfile stage that runs as a container with the ccache directory mounted, and produces wheels.

    `job_memory` is what one compiler job may need, in bytes; it bounds MAX_JOBS on the daemon's memory.
    """

    stage: str
    run: tuple[str, ...]
    wheels_stage: str
    job_memory: int
    ccache: CcacheSettings


@dataclass(frozen=True, slots=True)
class Verify:
    """What a built image must be. `expectations` is handed to the tier's verify.py as JSON text, as it was written."""

    expectations: str = "{}"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that a built image must keep. `size` in bytes, uncompressed."""

    size: int | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """A BuildKit secret: its id, and the environment variable or the file that holds the value on this machine."""

    id: str
    env: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Tier:
    """One image of the chain; `images/<name>/` is its folder. Exactly one of `parent` and `bases` is given."""

    name: str
    tag: str
    parent: str | None = None
    bases: Mapping[str, str] = field(default_factory=_none)
    args: Mapping[str, str] = field(default_factory=_none)
    target: str | None = None
    compile: CompileStep | None = None
    verify: Verify = field(default_factory=Verify)
    budget: Budget = field(default_factory=Budget)
    refresh: Refresh = Refresh.NEVER
    secrets: tuple[Secret, ...] = ()


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
class CloudBuild:
    """How Google Cloud Build runs the pipeline. Durations in seconds, `disk` in GB.

    With a private `pool`, which has a machine and a disk of its own, `machine` and `disk` mean nothing.
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


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The whole of pipeline.yaml with one variant applied. `tiers` keeps the order of the file.

    `channels` is where the registry's friendly tags are kept, when they lie apart from the tags by key.
    """

    name: str
    variant: str | None
    registry: str | None
    cache: str
    platform: str
    gpus: tuple[str, ...]
    arch_list: str
    tiers: Mapping[str, Tier]
    cloudbuild: CloudBuild
    pins: Mapping[str, str] = field(default_factory=_none)
    channels: str | None = None

    def order(self) -> tuple[Tier, ...]:
        """Return the tiers parents first, otherwise in the order of the file. The parents must form no cycle."""
        done: dict[str, Tier] = {}

        def visit(tier: Tier) -> None:
            if tier.name in done:
                return
            if tier.parent is not None:
                visit(self.tiers[tier.parent])
            done[tier.name] = tier

        for tier in self.tiers.values():
            visit(tier)
        return tuple(done.values())

    def ancestry(self, name: str) -> tuple[Tier, ...]:
        """Return the chain that ends in tier `name`, eldest first."""
        tier = self.tiers[name]
        return (*(self.ancestry(tier.parent) if tier.parent else ()), tier)
