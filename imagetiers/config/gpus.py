"""GPUs, compute capabilities, and which CUDA toolkit can compile for them: facts as data.

Sources: developer.nvidia.com/cuda-gpus (capabilities); `nvcc --list-gpu-code` and `ptxas --help` of each toolkit (targets).
A cubin runs on devices of the same major capability and an equal or higher minor one (NVIDIA Ada Compatibility Guide).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from imagetiers.suggestions import nearest

__all__ = ["GPUS", "Capability", "arch_list", "cuda_targets", "gpu_named", "nearest_gpu"]


@dataclass(frozen=True, slots=True, order=True)
class Capability:
    """A CUDA compute capability, such as 8.9."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


def _cc(text: str) -> Capability:
    major, minor = text.split(".")
    return Capability(int(major), int(minor))


GPUS: dict[str, Capability] = {
    name: _cc(cc)
    for name, cc in {
        "P100": "6.0",
        "P4": "6.1",
        "V100": "7.0",
        "T4": "7.5",
        "RTX-2080": "7.5",
        "A100": "8.0",
        "A30": "8.0",
        "A10": "8.6",
        "A40": "8.6",
        "RTX-3090": "8.6",
        "RTX-4090": "8.9",
        "L4": "8.9",
        "L40S": "8.9",
        "H100": "9.0",
        "H200": "9.0",
        "B200": "10.0",
        "B300": "10.3",
        "RTX-5090": "12.0",
        "RTX-PRO-6000": "12.0",
    }.items()
}

_SPELT = {re.sub(r"[ _-]", "", name): name for name in GPUS}


def gpu_named(text: str) -> str | None:
    """Return the name of the GPU that a text means, in any case, with '-', '_' or a blank; None for an unknown one."""
    return _SPELT.get(re.sub(r"[ _-]", "", text.upper())) if text.isascii() else None


def nearest_gpu(text: str) -> str:
    """Return a hint to the GPU that an unknown name may mean, or all that are known."""
    plain = re.sub(r"NVIDIA|GEFORCE|TESLA|QUADRO|[^A-Z0-9]", "", text.upper())
    close = plain if plain in _SPELT else nearest(plain, _SPELT)
    return f"did you mean '{_SPELT[close]}'?" if close is not None else f"known: {', '.join(sorted(GPUS))}"


_UP_TO_HOPPER = "5.0 5.2 5.3 6.0 6.1 6.2 7.0 7.2 7.5 8.0 8.6 8.7 8.9 9.0"
_TARGETS: dict[tuple[int, int], str] = {
    (11, 8): "3.5 3.7 " + _UP_TO_HOPPER,
    (12, 1): _UP_TO_HOPPER,
    (12, 4): _UP_TO_HOPPER,
    (12, 6): _UP_TO_HOPPER,
    (12, 8): _UP_TO_HOPPER + " 10.0 10.1 12.0",
    (12, 9): _UP_TO_HOPPER + " 10.0 10.1 10.3 12.0 12.1",
    (13, 0): "7.5 8.0 8.6 8.7 8.8 8.9 9.0 10.0 10.3 11.0 12.0 12.1",
}


def cuda_targets(version: tuple[int, int]) -> frozenset[Capability] | None:
    """Return what CUDA `version` (major, minor) compiles machine code for, or None where that was not looked up.

    A version between two known ones is taken as the lower one of the same major: targets are added, never removed,
    within a major version.
    """
    known = [v for v in _TARGETS if v[0] == version[0] and v <= version]
    return frozenset(_cc(cc) for cc in _TARGETS[max(known)].split()) if known else None


def arch_list(gpus: Iterable[str]) -> str:
    """Return TORCH_CUDA_ARCH_LIST for known GPU names, ascending and without repeats: `7.5;8.0;8.9`."""
    return ";".join(str(cc) for cc in sorted({GPUS[gpu] for gpu in gpus}))
