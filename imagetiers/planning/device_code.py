"""Whether the device code that an image holds is what its GPUs were promised. Pure.

`doit check` says, from a list of architectures, how each GPU will run what is compiled for them. Here the same rules are
applied to what the libraries of the finished image really hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from imagetiers.binaries.device_code import DeviceCode
from imagetiers.config.cuda_facts import NVIDIA_LIBRARIES
from imagetiers.config.gpus import (
    GPUS,
    Architecture,
    Fit,
    How,
    Target,
    architecture,
    fit,
    ptx_of,
    read_arch_list,
    sass_of,
)
from imagetiers.errors import Problem
from imagetiers.layers.model import FileEntry
from imagetiers.planning.plan import DeviceCheck

__all__ = ["DeviceLibrary", "DevicePromise", "device_libraries", "judge", "made_by_others", "promise", "read_library"]

_WORST = list(How)
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class DevicePromise:
    """How each GPU was said to run an image's libraries, which are compiled for `architectures`; but those of `others`."""

    architectures: tuple[Architecture, ...]
    gpus: Mapping[str, Fit]
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceLibrary:
    """A library of an image: the targets it holds machine code and PTX for.

    `stripped`: nvcc has compiled it, and its device code is gone; where nvcc was given no kernel, it leaves empty entries.
    `error`: why it could not be read, "" if it could.
    """

    path: str
    sass: tuple[Target, ...] = ()
    ptx: tuple[Target, ...] = ()
    stripped: bool = False
    error: str = ""

    @property
    def holds(self) -> str:
        """What it holds, as nvcc names it."""
        return ", ".join([*(target.sass for target in self.sass), *(target.ptx for target in self.ptx)])

    def document(self) -> dict[str, Any]:
        """Return it as a verdict holds it."""
        return {"path": self.path, "sass": list(map(str, self.sass)), "ptx": list(map(str, self.ptx))}


def promise(check: DeviceCheck) -> DevicePromise:
    """Return what is promised to GPUs; to all that are known and can run it, where a pipeline names none."""
    listed = read_arch_list(check.arch_list) or ()
    fits = {gpu: fit(GPUS[gpu], sass_of(listed), ptx_of(listed)) for gpu in check.gpus or GPUS}
    can = {gpu: found for gpu, found in fits.items() if found.target is not None}
    return DevicePromise(listed, MappingProxyType(can), check.others)


def read_library(document: object) -> DeviceLibrary | None:
    """Return the library of a verdict, None for what is none."""
    if not isinstance(document, dict) or not isinstance(document.get("path"), str):
        return None
    listed = [document.get("sass"), document.get("ptx")]
    sass, ptx = (_targets(map(str, each)) if isinstance(each, list) else None for each in listed)
    return None if sass is None or ptx is None else DeviceLibrary(document["path"], sass, ptx)


def device_libraries(entries: Iterable[FileEntry]) -> Iterator[DeviceLibrary]:
    """Yield the files of an image that have to do with CUDA, and those of which nobody can tell."""
    for entry in entries:
        if entry.elf_error:
            yield DeviceLibrary(entry.path, error=entry.elf_error)
        elif entry.device_code is not None:
            yield _library(entry.path, entry.device_code)


def _library(path: str, code: DeviceCode) -> DeviceLibrary:
    sass, ptx = _targets(code.sass), _targets(code.ptx)
    if sass is None or ptx is None:
        return DeviceLibrary(path, error=f"unknown targets: {', '.join([*code.sass, *code.ptx])}")
    return DeviceLibrary(path, sass, ptx, code.registers and not (sass or ptx or code.empty))


def _targets(listed: Iterable[str]) -> tuple[Target, ...] | None:
    found = [architecture(name) for name in listed]
    if any(each is None or each.ptx for each in found):
        return None
    return tuple(sorted(each.target for each in found if each is not None))


def made_by_others(path: str, patterns: Iterable[str] = ()) -> bool:
    """Say whether a library is one of NVIDIA's own, whose lists are NVIDIA's, or one that a pattern names."""
    name = PurePosixPath(path).name
    stem = name.removeprefix("lib").partition(".")[0].partition("-")[0]
    nvidias = name.startswith("lib") and any(stem == own or stem.startswith(f"{own}_") for own in NVIDIA_LIBRARIES)
    return nvidias or any(fnmatchcase(path, pattern) for pattern in patterns)


def judge(promised: DevicePromise, libraries: Iterable[DeviceLibrary], where: str) -> Iterator[Problem]:
    """Yield each library that breaks the promise, by architecture and GPU, and an image in which none could keep it.

    All are judged; of many problems the first are yielded, and how many more there are.
    """
    own = [library for library in libraries if not made_by_others(library.path, promised.others)]
    found = [problem for library in own for problem in _judge(promised, library, where)]
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield Problem(where, f"and {len(found) - _SHOWN:,} more of the kind, in other libraries", "mend these first")
    asked = ", ".join(map(str, promised.architectures))
    if not any(library.holds or library.stripped or library.error for library in own):
        what = f"the image is compiled for {asked}, and none of its libraries holds device code"
        yield Problem(where, what, "is it the CPU's PyTorch, or an extension that was built without CUDA?")


def _judge(promised: DevicePromise, library: DeviceLibrary, where: str) -> Iterator[Problem]:
    if library.error:
        yield Problem(where, f"{library.path}: its device code cannot be read: {library.error}", _OTHERS)
        return
    if library.stripped:
        what = f"{library.path} was compiled by nvcc and holds no device code: it was stripped"
        yield Problem(where, what, _OTHERS)
        return
    if not library.holds:
        return
    broken: dict[tuple[str, str], list[str]] = {}
    for gpu, said in promised.gpus.items():
        found = fit(GPUS[gpu], library.sass, library.ptx)
        if _WORST.index(found.how) > _WORST.index(said.how):
            broken.setdefault((str(found), str(said)), []).append(f"{gpu} ({GPUS[gpu]})")
    for (instead, promised_how), gpus in broken.items():
        what = f"{library.path} holds {library.holds}: {', '.join(gpus)}: {instead}, but promised was: {promised_how}"
        listed = ", ".join(map(str, promised.architectures))
        yield Problem(where, what, f"it has to be compiled for {listed} like the others; {_OTHERS}")


_OTHERS = "if somebody else has compiled it: `verify: {device_code: {others: [PATTERN]}}` in pipeline.yaml"
