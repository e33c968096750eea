"""How GPUs run what is compiled, as lines and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imagetiers.config.gpus import GPUS, Architecture, Fit, How, Target, arch_list, driver_for
from imagetiers.config.model import ARCH_LIST_ARG
from imagetiers.planning.gpus import Compiled

__all__ = ["fits_text", "gpu_document", "gpu_line", "gpu_lines", "unused_line"]


def gpu_line(compiled: Compiled) -> str:
    """Return one line: which GPUs run it, and how."""
    return f"{', '.join(compiled.tiers)}, compiled for {_list(compiled.architectures)}: {fits_text(compiled.fits)}"


def fits_text(fits: Mapping[str, Fit]) -> str:
    """Return how GPUs run code, those together that run it alike."""
    by_how: dict[str, list[str]] = {}
    for gpu, fit in fits.items():
        by_how.setdefault(str(fit), []).append(gpu)
    return "; ".join(f"{how}: {', '.join(gpus)}" for how, gpus in by_how.items())


def gpu_lines(compiled: Compiled) -> Iterator[str]:
    """Yield what `doit check` says: a line for each GPU, the driver that is needed, and what could be left out."""
    by = f" by CUDA {_version(compiled.cuda)}" if compiled.cuda is not None else ""
    yield f"{', '.join(compiled.tiers)}: compiled for {_list(compiled.architectures)}{by}"
    width = max(map(len, compiled.fits), default=0)
    for gpu, fit in compiled.fits.items():
        yield f"  {gpu:<{width}}  {GPUS[gpu]!s:>4}  {fit}"
    yield from (f"  {line}" for line in _driver(compiled))
    for target, instead in compiled.redundant.items():
        yield f"  {_redundant(compiled, target, instead)}"
        yield f"    it is 1 of the {compiled.device_compiles} device compiles of each CUDA file"


def _list(architectures: tuple[Architecture, ...]) -> str:
    return ", ".join(map(str, architectures))


def _version(cuda: tuple[int, int]) -> str:
    return ".".join(map(str, cuda))


def _driver(compiled: Compiled) -> Iterator[str]:
    if compiled.cuda is None:
        return
    plain = driver_for(compiled.cuda, ptx=False)
    if plain is not None:
        yield f"needs an NVIDIA driver >= {plain}"
    if any(fit.how is How.PTX for fit in compiled.fits.values()):
        own = driver_for(compiled.cuda, ptx=True)
        newest = f" (>= {own})" if own is not None else ""
        yield f"where PTX is compiled at start, a driver as new as CUDA {_version(compiled.cuda)}{newest}"


def _redundant(compiled: Compiled, target: Target, instead: Target | None) -> str:
    if instead is None:
        return f"{target} is redundant: none of the GPUs runs its code"
    gpus = ", ".join(gpu for gpu, fit in compiled.fits.items() if fit.target == target)
    return f"{target} is redundant: without it {gpus} would run {instead.sass}'s code"


def unused_line(gpus: tuple[str, ...]) -> str:
    """Say that nothing is compiled for the GPUs of a pipeline, so that nothing is known of them."""
    return f"nothing is compiled for {', '.join(gpus)}: no Dockerfile declares ARG {ARCH_LIST_ARG}"


def gpu_document(compiled: Compiled) -> dict[str, Any]:
    """Return it as `doit plan --json` has it."""
    cuda = compiled.cuda
    return {
        "tiers": list(compiled.tiers),
        "arch_list": arch_list(compiled.architectures),
        "cuda": None if cuda is None else _version(cuda),
        "driver": None if cuda is None else driver_for(cuda, ptx=False),
        "driver_for_ptx": None if cuda is None else driver_for(cuda, ptx=True),
        "device_compiles": compiled.device_compiles,
        "gpus": [
            {
                "gpu": gpu,
                "capability": str(GPUS[gpu]),
                "how": fit.how.value,
                "target": None if fit.target is None else str(fit.target),
                "text": str(fit),
            }
            for gpu, fit in compiled.fits.items()
        ],
        "redundant": [
            {"target": str(target), "instead": None if instead is None else str(instead)}
            for target, instead in compiled.redundant.items()
        ],
    }
