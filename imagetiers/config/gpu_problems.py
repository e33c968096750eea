"""What is wrong with the GPUs of a pipeline: an unknown one, one that cannot run the code, a CUDA that cannot make it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imagetiers.config.gpus import (
    GPUS,
    Architecture,
    Target,
    architecture,
    architectures_of,
    cuda_targets,
    fit,
    gpu_named,
    nearest_gpu,
    ptx_of,
    read_arch_list,
    sass_of,
    torch_targets,
)
from imagetiers.config.layout import PIPELINE_FILE
from imagetiers.config.model import ARCH_LIST_ARG
from imagetiers.config.schema import place
from imagetiers.config.yamltree import Node
from imagetiers.errors import Problem

__all__ = ["gpu_problems", "read_gpus", "toolkit_of"]


def read_gpus(listed: Iterable[Any]) -> tuple[tuple[str, ...], tuple[Architecture, ...]]:
    """Return the GPUs that `gpus` names, and the architectures that are compiled for.

    Those that are listed, if any is, or else each GPU's own. Of one target that is listed with and without PTX, with.
    """
    texts = [text for text in listed if isinstance(text, str)]
    names = tuple(dict.fromkeys(name for text in texts if (name := gpu_named(text))))
    found: dict[Target, Architecture] = {}
    for each in sorted(known for text in texts if (known := architecture(text))):
        found[each.target] = each
    return names, tuple(found.values()) or architectures_of(names)


def toolkit_of(tiers: Iterable[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return the CUDA (major, minor) that compiles, as `compile.cuda` or a base image cuda:X.Y says; the oldest of several."""
    return min((version for tier in tiers for version in _toolkits(tier)), default=None)


def _toolkits(tier: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    step, bases = tier.get("compile"), tier.get("bases")
    said = step.get("cuda") if isinstance(step, dict) else None
    texts = [f"cuda:{said}"] if said is not None else bases.values() if isinstance(bases, dict) else ()
    for text in texts:
        match = re.search(r"(?:^|/)cuda:(\d+)\.(\d+)", str(text))
        if match:
            yield int(match[1]), int(match[2])


def gpu_problems(tree: Node) -> Iterator[Problem]:
    """Yield what a schema cannot say."""
    gpus = tree.at(("gpus",))
    if gpus is tree or not isinstance(gpus.value, list):
        return
    names, _ = read_gpus(gpus.plain())
    yield from _twice_problems(tree, gpus.value)
    for index, node in enumerate(gpus.value):
        if isinstance(node.value, str):
            where = place(tree, ("gpus", index), PIPELINE_FILE)
            yield from _entry_problems(where, node.text, gpus.plain(), _tiers(tree))
    for tier, given in _tiers(tree).items():
        own = given.get("args")
        text = own.get(ARCH_LIST_ARG) if isinstance(own, dict) else None
        compiled = read_arch_list(text) if isinstance(text, str) else None
        where = place(tree, ("tiers", tier, "args", ARCH_LIST_ARG), PIPELINE_FILE)
        for name in names if compiled is not None else ():
            yield from _cannot_run(where, name, compiled or ())


def _twice_problems(tree: Node, nodes: list[Node]) -> Iterator[Problem]:
    """Yield what stands there twice in two spellings; the same one twice is what the schema says."""
    seen: dict[str | Target, str] = {}
    for index, node in enumerate(nodes):
        if not isinstance(node.value, str):
            continue
        known = architecture(node.text)
        same = known.target if known is not None else gpu_named(node.text)
        if same is None:
            continue
        if seen.setdefault(same, node.text) != node.text:
            where = place(tree, ("gpus", index), PIPELINE_FILE)
            yield Problem(where, f"{same} stands there twice", "remove one of the two")


def _entry_problems(
    where: str, text: str, listed: Iterable[Any], tiers: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    """Yield what is wrong with one entry of `gpus`."""
    name, known = gpu_named(text), architecture(text)
    if known is not None:
        yield from _target_problems(where, known.target, "", tiers)
    elif name is None:
        yield Problem(where, f"the GPU '{text[:40]}' is not known", nearest_gpu(text))
    elif any(isinstance(each, str) and architecture(each) for each in listed):
        yield from _cannot_run(where, name, read_gpus(listed)[1])
    else:
        yield from _target_problems(where, Target(GPUS[name]), name, tiers)


def _tiers(tree: Node) -> dict[str, dict[str, Any]]:
    tiers = tree.at(("tiers",))
    if tiers is tree or not isinstance(tiers.value, dict):
        return {}
    plain: dict[str, Any] = tiers.plain()
    return {name: tier for name, tier in plain.items() if isinstance(tier, dict)}


def _torch(tiers: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the torch that is compiled, if a tier says so."""
    args = [tier["args"] for tier in tiers.values() if isinstance(tier.get("args"), dict)]
    return next((str(given["PYTORCH_VERSION"]) for given in args if "PYTORCH_VERSION" in given), None)


def _target_problems(where: str, target: Target, gpu: str, tiers: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield what cannot compile for a target; `gpu` is the GPU that asks for it, "" where the target itself is listed."""
    shown = f"{gpu} (compute capability {target})" if gpu else str(target)
    torch = _torch(tiers)
    for version in sorted({version for tier in tiers.values() for version in _toolkits(tier)}):
        targets = cuda_targets(version)
        if targets is not None and target not in targets:
            what = f"CUDA {'.'.join(map(str, version))} cannot compile for {shown}"
            yield Problem(where, what, _other_toolkit(target, targets, gpu))
    known = torch_targets(torch) if torch is not None else None
    if known is not None and target not in known:
        plain = Target(target.capability)
        instead = f"write {plain}" if target.suffix and plain in known else _other_toolkit(target, known, gpu)
        yield Problem(where, f"PyTorch {torch} does not know {shown} in TORCH_CUDA_ARCH_LIST", instead)


def _other_toolkit(target: Target, targets: Iterable[Target], gpu: str) -> str:
    """Return the way out where nothing compiles for a target: machine code that runs there too, or PTX."""
    if not gpu:
        return "remove it, or take a CUDA and a PyTorch that know it"
    plain = sorted(each for each in targets if not each.suffix)
    served = max((each for each in plain if fit(target.capability, (each,), ()).target), default=None)
    lower = max((each for each in plain if each.capability <= target.capability), default=None)
    if served is not None:
        return f'list the architectures instead: "{served}" runs on it, too'
    ptx = f', or list the architectures with PTX for it: "{lower}+PTX"' if lower is not None else ""
    return f"remove the GPU, or take bases with a CUDA that knows it{ptx}"


def _cannot_run(where: str, name: str, compiled: tuple[Architecture, ...]) -> Iterator[Problem]:
    gpu = GPUS[name]
    if fit(gpu, sass_of(compiled), ptx_of(compiled)).target is None:
        lower = [each.target for each in compiled if not each.target.suffix and each.target.capability <= gpu]
        ptx = f', or let the driver compile: "{max(lower)}+PTX"' if lower else ""
        what = f"{name} (compute capability {gpu}) cannot run what is compiled for {', '.join(map(str, compiled))}"
        yield Problem(where, what, f'add "{gpu}"{ptx}')
