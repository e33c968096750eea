"""GPUs, and what compiled code runs on them: pure rules over the facts in `cuda_facts`.

A *target* is what code is compiled for: 9.0, 9.0a, 10.0f. Its machine code (SASS, a cubin: sm_90) runs as follows; its PTX
(compute_90) is compiled by the driver when a program starts (just in time).

    target   machine code runs on                                            PTX is compiled on
    X.Y      X.Z with Z >= Y; only on X.Y itself if either is a Tegra's      that and every later capability
    X.Ya     X.Y                                                             X.Y
    X.Yf     its family: X.Y, and what NVIDIA lists                          the same

Sources: CUDA C++ Programming Guide, Binary Compatibility, PTX Compatibility, Feature Set Compiler Targets; NVIDIA Ada and
Blackwell Compatibility Guides ("a cubin generated for compute capability 8.0 is supported to run on a GPU with 8.6", not the
other way, and none of 8.x on 9.0).

`fit` needs nothing but targets and a capability: they may come from a pipeline, or from the bits of an image.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from imagetiers.config import cuda_facts
from imagetiers.suggestions import nearest

__all__ = [
    "GPUS",
    "Architecture",
    "Capability",
    "Fit",
    "How",
    "Target",
    "arch_list",
    "architecture",
    "architectures_of",
    "cuda_targets",
    "driver_for",
    "fit",
    "gpu_named",
    "nearest_gpu",
    "ptx_of",
    "read_arch_list",
    "redundant",
    "sass_of",
    "torch_targets",
]


@dataclass(frozen=True, slots=True, order=True)
class Capability:
    """A CUDA compute capability, such as 8.9."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What code is compiled for: a capability, with `a` for code that runs on it alone, `f` for its family."""

    capability: Capability
    suffix: str = ""

    def __str__(self) -> str:
        return f"{self.capability}{self.suffix}"

    @property
    def sass(self) -> str:
        """How nvcc calls its machine code, such as sm_90a."""
        return f"sm_{self.capability.major}{self.capability.minor}{self.suffix}"

    @property
    def ptx(self) -> str:
        """How nvcc calls its PTX, such as compute_90a."""
        return f"compute_{self.capability.major}{self.capability.minor}{self.suffix}"


@dataclass(frozen=True, slots=True, order=True)
class Architecture:
    """An entry of TORCH_CUDA_ARCH_LIST: machine code for a target and, with `ptx`, its PTX as well: 8.9+PTX."""

    target: Target
    ptx: bool = False

    def __str__(self) -> str:
        return f"{self.target}+PTX" if self.ptx else str(self.target)


class How(Enum):
    """How a GPU runs compiled code, the best first."""

    NATIVE = "native"
    COMPATIBLE = "compatible"
    PTX = "ptx"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Fit:
    """How a GPU runs code, and of which target; None where it cannot."""

    how: How
    target: Target | None = None

    def __str__(self) -> str:
        """Return it in the words that `doit check` uses."""
        if self.target is None:
            return "cannot run"
        return {
            How.NATIVE: "native",
            How.COMPATIBLE: f"runs {self.target.sass}'s code",
            How.PTX: f"{self.target.ptx}'s PTX, compiled at start",
        }[self.how]


_TARGET = re.compile(r"(\d{1,2})\.(\d)([af]?)")


def _target(text: str) -> Target:
    found = _TARGET.fullmatch(text)
    assert found is not None, text  # noqa: S101  the facts are ours
    return Target(Capability(int(found[1]), int(found[2])), found[3])


def _targets(text: str) -> frozenset[Target]:
    return frozenset(map(_target, text.split()))


def _capabilities(text: str) -> frozenset[Capability]:
    return frozenset(target.capability for target in _targets(text))


GPUS: dict[str, Capability] = {name: _target(cc).capability for name, cc in cuda_facts.CAPABILITIES.items()}

_TEGRA = _capabilities(cuda_facts.TEGRA)
_FAMILIES = {_target(name): _capabilities(members) for name, members in cuda_facts.FAMILIES.items()}
_SPELT = {re.sub(r"[ _-]", "", name): name for name in GPUS}


def gpu_named(text: str) -> str | None:
    """Return the name of the GPU that a text means, in any case, with '-', '_' or a blank; None for an unknown one."""
    return _SPELT.get(re.sub(r"[ _-]", "", text.upper())) if text.isascii() else None


def architecture(text: str) -> Architecture | None:
    """Return the architecture that a text means (8.9, 8.9+PTX, 9.0a), None for anything else."""
    if not text.isascii():
        return None
    name, plus, rest = text.partition("+")
    found = _TARGET.fullmatch(name)
    if found is None or (plus and rest.upper() != "PTX"):
        return None
    return Architecture(_target(name), bool(plus))


def nearest_gpu(text: str) -> str:
    """Return a hint to what an unknown name may mean: a GPU, an architecture, or all GPUs that are known."""
    spelt = re.fullmatch(r"(?:sm|compute)_(\d{1,2})(\d)([af]?)", text)
    if spelt is not None:
        return f'write "{spelt[1]}.{spelt[2]}{spelt[3]}"' + ("" if text.startswith("sm") else ' with "+PTX" behind it')
    plain = re.sub(r"NVIDIA|GEFORCE|TESLA|QUADRO|[^A-Z0-9]", "", text.upper())
    close = plain if plain in _SPELT else nearest(plain, _SPELT)
    return f"did you mean '{_SPELT[close]}'?" if close is not None else f"known: {', '.join(sorted(GPUS))}"


def cuda_targets(version: tuple[int, int]) -> frozenset[Target] | None:
    """Return what CUDA `version` (major, minor) compiles for, or None where that was not looked up.

    A version between two known ones is taken as the lower one of the same major: targets are added, never removed,
    within a major version.
    """
    known = [v for v in cuda_facts.TARGETS if v[0] == version[0] and v <= version]
    return _targets(cuda_facts.TARGETS[max(known)]) if known else None


def torch_targets(version: str) -> frozenset[Target] | None:
    """Return what a torch takes in TORCH_CUDA_ARCH_LIST, or None where that was not looked up."""
    known = cuda_facts.TORCH_ARCHITECTURES.get(version)
    return None if known is None else _targets(known)


def driver_for(version: tuple[int, int], *, ptx: bool) -> str | None:
    """Return the oldest driver (Linux) for code of CUDA `version`, machine code or PTX; None where that was not looked up."""
    return cuda_facts.OWN_DRIVER.get(version) if ptx else cuda_facts.MINIMUM_DRIVER.get(version[0])


def _runs(target: Target, gpu: Capability) -> bool:
    """Say whether machine code for a target runs on a GPU."""
    own = target.capability
    if target.suffix == "f":
        return gpu in _FAMILIES.get(target, {own})
    if own == gpu or target.suffix == "a":
        return own == gpu
    return own.major == gpu.major and own.minor < gpu.minor and own not in _TEGRA and gpu not in _TEGRA


def _compiles(target: Target, gpu: Capability) -> bool:
    """Say whether the driver compiles a target's PTX for a GPU."""
    return _runs(target, gpu) if target.suffix else target.capability <= gpu


def fit(gpu: Capability, sass: Iterable[Target], ptx: Iterable[Target]) -> Fit:
    """Say how a GPU runs code for these targets. The driver takes machine code where it can, of the nearest target."""
    best = max((target for target in sass if _runs(target, gpu)), default=None)
    if best is not None:
        return Fit(How.NATIVE if best.capability == gpu else How.COMPATIBLE, best)
    best = max((target for target in ptx if _compiles(target, gpu)), default=None)
    return Fit(How.NOT) if best is None else Fit(How.PTX, best)


def sass_of(architectures: Iterable[Architecture]) -> tuple[Target, ...]:
    """Return the targets of which there is machine code."""
    return tuple(architecture.target for architecture in architectures)


def ptx_of(architectures: Iterable[Architecture]) -> tuple[Target, ...]:
    """Return the targets of which there is PTX."""
    return tuple(architecture.target for architecture in architectures if architecture.ptx)


def redundant(
    sass: Collection[Target], ptx: Collection[Target], gpus: Collection[Capability]
) -> dict[Target, Target | None]:
    """Return the targets without which each GPU would still run machine code, and whose code it would be.

    None: no GPU takes its code even now. All of them can be left out together. Never redundant are targets whose PTX is
    there, too, which is for other GPUs; and `a` and `f` targets: their code does what other code cannot, and is no
    substitute.
    """
    plain = [target for target in sass if not target.suffix]
    users = {target: [gpu for gpu in gpus if fit(gpu, plain, ()).target == target] for target in plain}
    kept = [target for target in plain if users[target] or target in ptx]
    for target in sorted(kept, reverse=True):
        others = [other for other in kept if other != target]
        if target not in ptx and all(any(_runs(other, gpu) for other in others) for gpu in users[target]):
            kept = others
    left_out = sorted(target for target in plain if target not in kept)
    return {target: fit(users[target][0], kept, ()).target if users[target] else None for target in left_out}


def architectures_of(gpus: Iterable[str]) -> tuple[Architecture, ...]:
    """Return the architectures that known GPU names mean, each one's own, ascending and without repeats."""
    return tuple(Architecture(Target(cc)) for cc in sorted({GPUS[gpu] for gpu in gpus}))


def arch_list(architectures: Iterable[Architecture]) -> str:
    """Return TORCH_CUDA_ARCH_LIST as PyTorch's CMake and its cpp_extension both read it: `7.5;8.0;9.0a;10.0+PTX`."""
    return ";".join(map(str, architectures))


def read_arch_list(text: str) -> tuple[Architecture, ...] | None:
    """Return what a TORCH_CUDA_ARCH_LIST says, None where it names generations (Ampere), which only PyTorch knows."""
    found = [architecture(word) for word in text.replace(" ", ";").split(";") if word]
    whole = tuple(sorted({each for each in found if each is not None}))
    return whole if whole and None not in found else None
