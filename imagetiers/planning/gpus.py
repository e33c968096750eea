"""How the GPUs of a plan run what its tiers compile. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from imagetiers.config.gpus import (
    GPUS,
    Architecture,
    Fit,
    Target,
    fit,
    ptx_of,
    read_arch_list,
    redundant,
    sass_of,
)
from imagetiers.config.model import ARCH_LIST_ARG
from imagetiers.planning.plan import Plan

__all__ = ["Compiled", "compiled_for"]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What tiers compile for GPUs: for which architectures, by which CUDA (None: nobody says), and how each GPU runs it.

    `redundant` are the targets that could be left out, with the one whose code would run instead (None: nobody's, as now).
    """

    tiers: tuple[str, ...]
    architectures: tuple[Architecture, ...]
    cuda: tuple[int, int] | None
    fits: Mapping[str, Fit]
    redundant: Mapping[Target, Target | None] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def device_compiles(self) -> int:
        """How often each CUDA file's device code is compiled: for each machine code and each PTX."""
        return len(sass_of(self.architectures)) + len(ptx_of(self.architectures))


def compiled_for(plan: Plan) -> tuple[Compiled, ...]:
    """Return what the tiers compile, one entry for each list of architectures; a list that only PyTorch can read is left out.

    Without a GPU in `gpus` nothing is promised: then it is told of every known GPU that runs it, and nothing is redundant.
    """
    tiers: dict[str, list[str]] = {}
    for tier in plan.tiers.values():
        compiled = tier.compile.key_document.args.get(ARCH_LIST_ARG) if tier.compile is not None else None
        for text in dict.fromkeys(each for each in (compiled, tier.arch_list) if each is not None):
            tiers.setdefault(text, []).append(tier.name)
    told: list[Compiled] = []
    for text, names in tiers.items():
        architectures = read_arch_list(text)
        if architectures is None:
            continue
        gpus = plan.pipeline.gpus
        sass, ptx = sass_of(architectures), ptx_of(architectures)
        fits = {gpu: fit(GPUS[gpu], sass, ptx) for gpu in gpus or GPUS}
        if not gpus:
            fits = {gpu: found for gpu, found in fits.items() if found.target is not None}
        needless = redundant(sass, ptx, [GPUS[gpu] for gpu in gpus]) if gpus else {}
        told.append(
            Compiled(
                tuple(names), architectures, plan.pipeline.cuda, MappingProxyType(fits), MappingProxyType(needless)
            )
        )
    return tuple(told)
