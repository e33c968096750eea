"""The plan: order, keys and references of all tiers, as values. `make` makes it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from imagetiers.config.checks import Declared
from imagetiers.config.model import ARCH_LIST_ARG, Budget, CompileStep, Pipeline, Tier
from imagetiers.inputs.files import InputFile, named_after
from imagetiers.planning import keys
from imagetiers.planning.keys import KeyDocument
from imagetiers.rules.finding import Finding

__all__ = [
    "CompilePlan",
    "Contexts",
    "DeviceCheck",
    "Plan",
    "Recipe",
    "TakenFolder",
    "TierPlan",
    "VerifyPlan",
    "in_repository",
    "unpinned",
]

VERIFY_RECIPE = 3  # raised when the way that checks are run changes
DEVICE_RECIPE = 2  # raised when device code is read or judged otherwise
_NAMED_BY = 32  # hex digits
DECLARED_RECIPE = 1  # raised when what is declared is read or judged otherwise


@dataclass(frozen=True, slots=True)
class Contexts:
    """What a build takes from by a name, beside its own context: `images` are outside ones, as they are pinned."""

    tiers: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TakenFolder:
    """The files that a build takes from a folder by a name of pipeline.yaml's; `path` is the folder's, as `//FOLDER`."""

    name: str
    path: str
    files: tuple[InputFile, ...]

    @property
    def sent_as(self) -> str:
        """The name that BuildKit knows it by, another one for other files."""
        return named_after(self.name, self.files, _NAMED_BY)


@dataclass(frozen=True, slots=True)
class CompilePlan:
    """How a tier's wheels are made, by `config`: `builder` is the compile stage's image, `namespace` names its ccache.

    `args` hold the parent's reference where the stage takes the parent's image, and `parent` names that tier, None where it
    does not. `layers` is where the registry keeps the builder for other workers' builds, None where it does not.
    """

    tier: str
    config: CompileStep
    key_document: KeyDocument
    builder: str
    namespace: str
    args: Mapping[str, str]
    files: tuple[InputFile, ...]
    dockerfile: bytes
    layers: str | None = None
    contexts: Contexts = field(default_factory=Contexts)
    parent: str | None = None
    folders: tuple[TakenFolder, ...] = ()

    @property
    def key(self) -> str:
        """The compile key: the wheels of equal keys are interchangeable."""
        return self.key_document.key

    @property
    def made_from(self) -> tuple[str, ...]:
        """The tiers whose images the compile stage is built from, the parent first."""
        return _made_from(self.parent, self.contexts)

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """The files that it compiles, as its key document calls them."""
        return (*self.files, *in_repository(self.folders))

    @property
    def arches(self) -> tuple[str, ...]:
        """The GPU architectures that it compiles for, as TORCH_CUDA_ARCH_LIST names them; none where it takes no such list."""
        listed = self.key_document.args.get(ARCH_LIST_ARG)
        return tuple(listed.split(";")) if listed is not None else ()


@dataclass(frozen=True, slots=True)
class DeviceCheck:
    """What an image's libraries are compiled for (as TORCH_CUDA_ARCH_LIST has it), and the GPUs that `gpus` names.

    `others` are patterns of paths: libraries that somebody else has compiled, for whatever that may be.
    """

    arch_list: str
    gpus: tuple[str, ...]
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """The checks of an image: the scripts of its ancestry, eldest first, with the parameters of each (JSON text).

    `script_paths` are where these lie in the repository, by tier.
    `declared` is what its ancestry asks in pipeline.yaml, eldest first; `device` is None where nothing is compiled for GPUs.
    """

    scripts: tuple[tuple[str, bytes, str], ...]
    script_paths: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    budget: Budget = field(default_factory=Budget)
    device: DeviceCheck | None = None
    declared: tuple[Declared, ...] = ()
    check: str = field(init=False)

    def __post_init__(self) -> None:
        size, *others = self.budget.limits
        budget = str(size) if not any(other is not None for other in others) else str(self.budget.limits)
        digest = hashlib.sha256(f"{VERIFY_RECIPE}\0{budget}\0".encode())
        for tier, script, expectations in self.scripts:
            digest.update(f"{tier}\0{len(script)}\0".encode() + script + expectations.encode())
        if self.device is not None:
            asked = (self.device.arch_list, *self.device.gpus, "", *self.device.others)
            digest.update("\0".join(("device", str(DEVICE_RECIPE), *asked)).encode())
        for each in self.declared:
            digest.update("\0".join(("declared", str(DECLARED_RECIPE), each.tier, each.text)).encode())
        object.__setattr__(self, "check", digest.hexdigest())

    @property
    def empty(self) -> bool:
        """Whether there is nothing at all to check: such an image is never called verified."""
        return not (self.scripts or self.declared) and self.budget == Budget() and self.device is None

    @property
    def only_size(self) -> bool:
        """Whether nothing but the image's size is checked."""
        return self.budget != Budget() and not (self.scripts or self.declared) and self.device is None

    @property
    def reads_files(self) -> bool:
        """Whether the image's files must be read."""
        return self.device is not None or any(each.checks.reads_files for each in self.declared)

    @property
    def runs(self) -> bool:
        """Whether something must be run in the image."""
        return bool(self.scripts) or any(each.checks.commands or each.checks.python for each in self.declared)

    @property
    def needs_engine(self) -> bool:
        """Whether an image that the registry has must be pulled to be checked; else its layers are read there."""
        return self.runs or self.budget != Budget()


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that an image is made of. What is as it was asks for none of it."""

    key_document: KeyDocument
    files: tuple[InputFile, ...]
    dockerfile: bytes
    folders: tuple[TakenFolder, ...] = ()


@dataclass(frozen=True, slots=True)
class TierPlan:
    """One tier's key and how its image is made. Images of equal keys are interchangeable.

    `config` is what pipeline.yaml says of it; `ref` is the reference by key; `tags` are the friendly ones, which may lie in
    another repository (`channels`). `recipe` belongs to the key: a remembered plan reads it when it is asked for. `findings` is
    what rules say of its Dockerfile, waived or not. `arch_list` is the list of GPU architectures that the image's stages are
    given, None where none of them declares it.
    """

    config: Tier
    key: str
    ref: str
    tags: tuple[str, ...]
    target: str | None
    args: Mapping[str, str]
    compile: CompilePlan | None
    verify: VerifyPlan
    recipe: Callable[[], Recipe] = field(compare=False, repr=False)
    findings: tuple[Finding, ...] = ()
    contexts: Contexts = field(default_factory=Contexts)
    arch_list: str | None = None

    @property
    def name(self) -> str:
        """The tier's name."""
        return self.config.name

    @property
    def made_from(self) -> tuple[str, ...]:
        """The tiers whose images this one is built from, the parent first."""
        return _made_from(self.config.parent, self.contexts)

    @property
    def key_document(self) -> KeyDocument:
        """What the key is the hash of."""
        return self.recipe().key_document

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The inputs of the image."""
        return self.recipe().files

    @property
    def folders(self) -> tuple[TakenFolder, ...]:
        """What it takes from folders by a name."""
        return self.recipe().folders

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """The files that it is made of, as its key document calls them."""
        return (*self.files, *in_repository(self.folders))

    @property
    def dockerfile(self) -> bytes:
        """The Dockerfile that is sent."""
        return self.recipe().dockerfile

    @property
    def repository(self) -> str:
        """The reference without its tag."""
        return self.ref.rpartition(":")[0]


def in_repository(folders: Iterable[TakenFolder]) -> tuple[InputFile, ...]:
    """Return files of folders under the paths that key documents have: `//FOLDER/PATH`."""
    return tuple(replace(file, path=f"{folder.path}/{file.path}") for folder in folders for file in folder.files)


def _made_from(parent: str | None, contexts: Contexts) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*((parent,) if parent is not None else ()), *contexts.tiers.values())))


@dataclass(frozen=True, slots=True)
class Plan:
    """All tiers, each behind those that it is made from."""

    pipeline: Pipeline
    tiers: Mapping[str, TierPlan]

    @property
    def images(self) -> tuple[str, ...]:
        """The tiers that make images, by name."""
        return tuple(name for name, tier in self.tiers.items() if tier.config.output is None)

    def document(self) -> dict[str, Any]:
        """Return the plan as JSON knows it, with the key documents."""
        return {
            "version": 1,
            "pipeline": self.pipeline.name,
            "variant": self.pipeline.variant,
            "platform": self.pipeline.platform,
            "tiers": [
                {
                    "tier": tier.name,
                    "key": tier.key,
                    "ref": tier.ref,
                    "tags": list(tier.tags),
                    "parent": tier.config.parent,
                    "contexts": dict(tier.key_document.contexts),
                    "manifest": tier.key_document.content(),
                    "compile": None
                    if tier.compile is None
                    else {
                        "key": tier.compile.key,
                        "builder": tier.compile.builder,
                        "namespace": tier.compile.namespace,
                        "manifest": tier.compile.key_document.content(),
                    },
                    "check": tier.verify.check,
                }
                for tier in self.tiers.values()
            ],
        }


def unpinned(tier: TierPlan, pipeline: Pipeline) -> tuple[str, ...]:
    """Return what the tier or its wheels are made from without a pin: outside images first, then git refs."""
    documents = (tier.key_document, *((tier.compile.key_document,) if tier.compile is not None else ()))
    images = {ref for document in documents for ref, digest in document.bases.items() if digest == keys.UNPINNED}
    used = {name for document in documents for name in document.args}
    refs = {
        source.name for name, source in tier.config.sources.items() if name in used and pipeline.commit(source) is None
    }
    return (*sorted(images), *sorted(refs))
