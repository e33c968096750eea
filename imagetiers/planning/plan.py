"""The plan: order, keys and references of all tiers. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Any

from imagetiers.config.gpus import ARCH_LIST_ARG
from imagetiers.config.model import CompileStep, Pipeline, Tier
from imagetiers.inputs.repository import PARENT_ARG, REFRESH_ARG, Repository, TierInputs
from imagetiers.inputs.snapshot import InputFile
from imagetiers.naming import ending_in_hash
from imagetiers.planning import keys
from imagetiers.planning.keys import KeyDocument, short

__all__ = [
    "CompilePlan",
    "Plan",
    "TierPlan",
    "VerifyPlan",
    "make_plan",
    "unpinned",
]

_NAMESPACE_MAX = 56
VERIFY_RECIPE = 2  # raised when the way that checks are run changes


@dataclass(frozen=True, slots=True)
class CompilePlan:
    """How a tier's wheels are made, by `config`: `builder` is the compile stage's image, `namespace` names its ccache.

    `args` hold the parent's reference where the stage takes the parent's image.
    """

    tier: str
    config: CompileStep
    key_document: KeyDocument
    builder: str
    namespace: str
    args: Mapping[str, str]
    files: tuple[InputFile, ...]
    dockerfile: bytes

    @property
    def key(self) -> str:
        """The compile key: the wheels of equal keys are interchangeable."""
        return self.key_document.key

    @property
    def in_parent(self) -> bool:
        """Whether it compiles in the parent's image."""
        return PARENT_ARG in self.args


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """The checks of an image: the scripts of its ancestry, eldest first, with what each expects (JSON text)."""

    scripts: tuple[tuple[str, bytes, str], ...]
    budget: int | None
    check: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(f"{VERIFY_RECIPE}\0{self.budget}\0".encode())
        for tier, script, expectations in self.scripts:
            digest.update(f"{tier}\0{len(script)}\0".encode() + script + expectations.encode())
        object.__setattr__(self, "check", digest.hexdigest())

    @property
    def empty(self) -> bool:
        """Whether there is nothing at all to check: such an image is never called verified."""
        return not self.scripts and self.budget is None


@dataclass(frozen=True, slots=True)
class TierPlan:
    """One tier's key and how its image is made.

    `config` is what pipeline.yaml says of it; `ref` is the reference by key; `tags` are the friendly ones, which may lie in
    another repository (`channels`).
    """

    config: Tier
    key_document: KeyDocument
    ref: str
    tags: tuple[str, ...]
    target: str | None
    args: Mapping[str, str]
    files: tuple[InputFile, ...]
    dockerfile: bytes
    compile: CompilePlan | None
    verify: VerifyPlan

    @property
    def name(self) -> str:
        """The tier's name."""
        return self.config.name

    @property
    def key(self) -> str:
        """The tier's key: images of equal keys are interchangeable."""
        return self.key_document.key

    @property
    def repository(self) -> str:
        """The reference without its tag."""
        return self.ref.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """All tiers, parents first."""

    pipeline: Pipeline
    tiers: Mapping[str, TierPlan]

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


def make_plan(repository: Repository, today: date) -> Plan:
    """Return the plan of everything in the repository. `today` matters only to tiers with `refresh`."""
    tiers: dict[str, TierPlan] = {}
    for tier in repository.pipeline.order():
        tiers[tier.name] = _tier_plan(repository, repository.inputs[tier.name], tiers, today)
    return Plan(repository.pipeline, MappingProxyType(tiers))


def _tier_plan(repository: Repository, inputs: TierInputs, done: Mapping[str, TierPlan], today: date) -> TierPlan:
    pipeline, tier = repository.pipeline, inputs.tier
    parent = done[tier.parent] if tier.parent is not None else None
    compile_plan = _compile_plan(pipeline, inputs, parent) if tier.compile is not None else None
    epoch = keys.refresh_epoch(tier.refresh, today)
    document = keys.image_document(
        inputs,
        pipeline.platform,
        pipeline.pins,
        parent=parent.key if parent else None,
        wheels=compile_plan.key if compile_plan else None,
        epoch=epoch,
    )
    repo = _repository(pipeline.registry, pipeline, tier)
    args = keys.image_args(inputs)
    if parent is not None:
        args[PARENT_ARG] = parent.ref
    if epoch is not None and REFRESH_ARG in document.args:
        args[REFRESH_ARG] = epoch
    return TierPlan(
        config=tier,
        key_document=document,
        ref=f"{repo}:{short(document.key)}",
        tags=(f"{_repository(pipeline.channels or pipeline.registry, pipeline, tier)}:{tier.tag}",),
        target=tier.target,
        args=MappingProxyType(args),
        files=keys.image_files(inputs),
        dockerfile=keys.image_dockerfile(inputs, pipeline.pins),
        compile=compile_plan,
        verify=_verify_plan(repository, tier),
    )


def _repository(place: str | None, pipeline: Pipeline, tier: Tier) -> str:
    return "/".join(part for part in (place, pipeline.name, tier.name) if part)


def _compile_plan(pipeline: Pipeline, inputs: TierInputs, parent: TierPlan | None) -> CompilePlan:
    step = inputs.tier.compile
    assert step is not None  # noqa: S101  the caller asked
    if not keys.compiles_in_parent(inputs):
        parent = None
    key = parent.key if parent is not None else None
    document = keys.compile_document(inputs, pipeline.platform, pipeline.pins, parent=key)
    args = keys.compile_args(inputs)
    if parent is not None:
        args[PARENT_ARG] = parent.ref
    toolchain = "-".join(re.sub(r"[^a-z0-9.]+", "-", ref.split("@")[0].lower()) for ref in _toolchain(document, parent))
    return CompilePlan(
        tier=inputs.tier.name,
        config=step,
        key_document=document,
        builder=f"{pipeline.name}/{inputs.tier.name}-{step.stage}:{short(document.key)}",
        namespace=_namespace(f"{pipeline.name}.{inputs.tier.name}.{pipeline.platform.replace('/', '-')}.{toolchain}"),
        args=MappingProxyType(args),
        files=keys.compile_files(inputs),
        dockerfile=keys.compile_dockerfile(inputs, pipeline.pins),
    )


def _toolchain(document: KeyDocument, parent: TierPlan | None) -> list[str]:
    """Return what names the compilers: the images they are in. Of a parent its name, so that its changes keep the entries."""
    return [*([parent.name] if parent is not None else []), *sorted(document.bases)]


def _namespace(text: str) -> str:
    """Keep a name that shows what it is, short enough for trust level, branch and ccache version beside it."""
    if len(text) <= _NAMESPACE_MAX:
        return text
    return ending_in_hash(text, text, _NAMESPACE_MAX)


def _verify_plan(repository: Repository, tier: Tier) -> VerifyPlan:
    scripts: list[tuple[str, bytes, str]] = []
    for ancestor in repository.pipeline.ancestry(tier.name):
        inputs = repository.inputs[ancestor.name]
        if inputs.files.verify is None:
            continue
        expectations = json.loads(ancestor.verify.expectations)
        if ARCH_LIST_ARG in inputs.args:
            expectations.setdefault("archs", inputs.args[ARCH_LIST_ARG])
        scripts.append((ancestor.name, inputs.files.verify, json.dumps(expectations, sort_keys=True)))
    return VerifyPlan(tuple(scripts), tier.budget.size)


def unpinned(tier: TierPlan, pipeline: Pipeline) -> tuple[str, ...]:
    """Return what the tier or its wheels are made from without a pin: outside images first, then git refs."""
    documents = (tier.key_document, *((tier.compile.key_document,) if tier.compile is not None else ()))
    images = {ref for document in documents for ref, digest in document.bases.items() if digest == keys.UNPINNED}
    used = {name for document in documents for name in document.args}
    refs = {
        source.name for name, source in tier.config.sources.items() if name in used and pipeline.commit(source) is None
    }
    return (*sorted(images), *sorted(refs))
