"""The plan of a repository: order, keys and references of all tiers. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from types import MappingProxyType

from imagetiers.config.checks import Declared
from imagetiers.config.gpus import read_arch_list
from imagetiers.config.layout import VERIFY_SCRIPT
from imagetiers.config.model import ARCH_LIST_ARG, PARENT_ARG, REFRESH_ARG, Pipeline
from imagetiers.config.names import friendly_tags, image_repository
from imagetiers.inputs.repository import Repository, TierInputs
from imagetiers.naming import ending_in_hash
from imagetiers.planning import ingredients
from imagetiers.planning.keys import KeyDocument, short
from imagetiers.planning.plan import CompilePlan, DeviceCheck, Plan, Recipe, TierPlan, VerifyPlan
from imagetiers.rules.look import look
from imagetiers.rules.subject import Inherited

__all__ = ["make_plan"]

_NAMESPACE_MAX = 56


def make_plan(repository: Repository, today: date) -> Plan:
    """Return the plan of everything in the repository. `today` matters only to tiers with `refresh`."""
    tiers: dict[str, TierPlan] = {}
    handed_on: dict[str, Inherited] = {}
    pipeline = repository.pipeline
    for tier in pipeline.order():
        inputs = repository.inputs[tier.name]
        parents = handed_on[tier.parent] if tier.parent is not None else Inherited()
        findings, handed_on[tier.name] = look(inputs, parents, pipeline.pins, shared=pipeline.registry is not None)
        tiers[tier.name] = replace(_tier_plan(repository, inputs, tiers, today), findings=findings)
    return Plan(repository.pipeline, MappingProxyType(tiers))


def _tier_plan(repository: Repository, inputs: TierInputs, done: Mapping[str, TierPlan], today: date) -> TierPlan:
    pipeline, tier = repository.pipeline, inputs.tier
    parent = done[tier.parent] if tier.parent is not None else None
    keys = {name: done[name].key for name in tier.made_from}
    compile_plan = _compile_plan(pipeline, inputs, parent, keys) if tier.compile is not None else None
    epoch = ingredients.refresh_epoch(tier.refresh, today)
    document = ingredients.image_document(
        inputs,
        pipeline.platform,
        pipeline.pins,
        keys=keys,
        wheels=compile_plan.key if compile_plan else None,
        epoch=epoch,
    )
    args = ingredients.image_args(inputs)
    if parent is not None:
        args[PARENT_ARG] = parent.ref
    if epoch is not None and REFRESH_ARG in document.args:
        args[REFRESH_ARG] = epoch
    recipe = Recipe(
        document,
        ingredients.image_files(inputs),
        ingredients.image_dockerfile(inputs, pipeline.pins),
        ingredients.image_folders(inputs),
    )
    return TierPlan(
        config=tier,
        key=document.key,
        ref=f"{image_repository(pipeline, tier)}:{short(document.key)}",
        tags=friendly_tags(pipeline, tier),
        target=tier.target,
        args=MappingProxyType(args),
        compile=compile_plan,
        verify=_verify_plan(pipeline, inputs, parent),
        recipe=lambda: recipe,
        contexts=ingredients.image_contexts(inputs, pipeline.pins),
        arch_list=document.args.get(ARCH_LIST_ARG),
    )


def _compile_plan(
    pipeline: Pipeline, inputs: TierInputs, parent: TierPlan | None, keys: Mapping[str, str]
) -> CompilePlan:
    step = inputs.tier.compile
    assert step is not None  # noqa: S101  the caller asked
    if not ingredients.compiles_in_parent(inputs):
        parent = None
    key = parent.key if parent is not None else None
    document = ingredients.compile_document(inputs, pipeline.platform, pipeline.pins, keys=keys, parent=key)
    args = ingredients.compile_args(inputs)
    if parent is not None:
        args[PARENT_ARG] = parent.ref
    toolchain = "-".join(re.sub(r"[^a-z0-9.]+", "-", ref.split("@")[0].lower()) for ref in _toolchain(document, parent))
    namespace = _namespace(f"{pipeline.name}.{inputs.tier.name}.{pipeline.platform.replace('/', '-')}.{toolchain}")
    shared = image_repository(pipeline, inputs.tier, friendly=True) if step.share_layers and pipeline.registry else None
    return CompilePlan(
        tier=inputs.tier.name,
        config=step,
        key_document=document,
        builder=f"{pipeline.name}/{inputs.tier.name}-{step.stage}:{short(document.key)}",
        namespace=namespace,
        args=MappingProxyType(args),
        files=ingredients.compile_files(inputs),
        dockerfile=ingredients.compile_dockerfile(inputs, pipeline.pins),
        layers=f"{shared}-{step.stage}:{namespace}" if shared is not None else None,
        contexts=ingredients.compile_contexts(inputs, pipeline.pins),
        parent=parent.name if parent is not None else None,
        folders=ingredients.compile_folders(inputs),
    )


def _toolchain(document: KeyDocument, parent: TierPlan | None) -> list[str]:
    """Return what names the compilers: the images they are in. Of a parent its name, so that its changes keep the entries."""
    return [*([parent.name] if parent is not None else []), *sorted(document.bases)]


def _namespace(text: str) -> str:
    """Keep a name that shows what it is, short enough for trust level, branch and ccache version beside it."""
    if len(text) <= _NAMESPACE_MAX:
        return text
    return ending_in_hash(text, text, _NAMESPACE_MAX)


def _verify_plan(pipeline: Pipeline, inputs: TierInputs, parent: TierPlan | None) -> VerifyPlan:
    scripts = parent.verify.scripts if parent is not None else ()
    paths = parent.verify.script_paths if parent is not None else MappingProxyType({})
    declared = parent.verify.declared if parent is not None else ()
    given = inputs.tier.verify
    if inputs.files.verify is not None:
        params = json.loads(given.params)
        if ARCH_LIST_ARG in inputs.args:
            params.setdefault("archs", inputs.args[ARCH_LIST_ARG])
        paths = MappingProxyType({**paths, inputs.tier.name: f"{inputs.tier.folder_path}/{VERIFY_SCRIPT}"})
        scripts = (*scripts, (inputs.tier.name, inputs.files.verify, json.dumps(params, sort_keys=True)))
    if given.declared != "{}":
        declared = (*declared, Declared(inputs.tier.name, given.checks, given.declared))
    device = _device_check(pipeline, inputs, parent.verify.device if parent is not None else None)
    return VerifyPlan(scripts, paths, inputs.tier.budget, device, declared)


def _device_check(pipeline: Pipeline, inputs: TierInputs, parents: DeviceCheck | None) -> DeviceCheck | None:
    """Return how an image's device code is checked: by the nearest list of architectures, none where it says "*" of others."""
    own = inputs.tier.verify.other_device_code
    others = tuple(dict.fromkeys((*(parents.others if parents is not None else ()), *own)))
    text = inputs.args.get(ARCH_LIST_ARG) or (parents.arch_list if parents is not None else "")
    return DeviceCheck(text, pipeline.gpus, others) if read_arch_list(text) and "*" not in others else None
