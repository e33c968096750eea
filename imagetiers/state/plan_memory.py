"""The last plan of a variant, remembered: it is the plan as long as all that was read for it is as it was.

What is compared is what `lstat` says of every file, link and folder that was looked at, and of this package's own code: kind,
size, inode, and the times of the last change, of which nobody can set the one of the inode (ctime). A file that is changed
twice within one tick of a clock looks the same after the second time; so nothing is remembered of a reading that has met
anything younger than two seconds (git's rule for its index). Of values it is bound to the variant, the calendar day where one
matters, variables of the command line and of the environment, Python, and the user.

The memory is safe to delete. It is taken only from a file that nobody but this user could have written, and
that holds what was written; what is damaged is as if it were not there. It has no contents of files: whoever makes something
reads the repository. What the images are made of stays packed until it is asked for: of thousands of tiers that are as they
were, it would be most of the memory. Beside it are the hashes of large files, by the same rule, so that a reading after
another change does not read them. Of variables of the environment the names are kept; what they say is in the digest.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import io
import os
import pickle
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from imagetiers import __version__
from imagetiers.config.checks import Checks, Forbidden, PythonCheck
from imagetiers.config.layout import Layout
from imagetiers.config.model import NOTHING_GIVEN, Budget, Refresh, Tier, Verify
from imagetiers.errors import PipelineError, Problem
from imagetiers.inputs.files import InputFile
from imagetiers.planning.keys import KeyDocument
from imagetiers.planning.plan import Contexts, Plan, Recipe, TierPlan, VerifyPlan
from imagetiers.repository_file import ABSENT, Reads, changed, identity, kind_in_the_way
from imagetiers.state.sealed import BROKEN, read_values, seal, unseal

__all__ = ["QUIET", "Remembered", "recall", "recall_hashes", "remember"]

QUIET = 2_000_000_000
"""How old what was read must be, in nanoseconds: some file systems' clocks tick once in two seconds."""

_Value = TypeVar("_Value")
_MAGIC = b"imagetiers plan 4\n"
_HASHES_MAGIC = b"imagetiers hashes 1\n"
_MOST_HASHES = 100_000
_DIGEST = 32
_NOTHING: Mapping[Any, Any] = MappingProxyType({})
_PACKAGE = Path(__file__).parent.parent
_CODE = ("", "config", "dockerfile", "inputs", "planning", "rules", "state")  # folders that decide what a plan is
_CLASSES = {
    "imagetiers.config.checks": {"Checks", "CommandCheck", "Declared", "FileCheck", "Forbidden", "PythonCheck"},
    "imagetiers.config.gpus": {"Architecture", "Capability", "Target"},
    "imagetiers.config.model": {
        "Budget", "BuildFolderSettings", "CcacheSettings", "CloudBuild", "CloudBuildKeys", "CompileStep", "GitRef",
        "MadeFiles", "NamedContext", "Pipeline", "Refresh", "ScanClass", "ScanPolicy", "SignedParents", "SupplyChain",
        "Secret", "Tier", "TrustSettings", "TrustedKey", "Verify", "Waiver",
    },
    "imagetiers.inputs.files": {"InputFile"},
    "imagetiers.planning.keys": {"KeyDocument"},
    "imagetiers.planning.plan": {
        "CompilePlan", "Contexts", "DeviceCheck", "Plan", "Recipe", "TakenFolder", "TierPlan", "VerifyPlan",
    },
    "imagetiers.rules.finding": {"Finding"},
    "imagetiers.state.plan_memory": {"Remembered", "_mapping", "_nothing", "_put_together"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Remembered:
    """A plan, and the names that `doit variant=` takes."""

    plan: Plan
    variants: tuple[str, ...]


def recall(
    layout: Layout, variant: str | None, today: date, given: Mapping[str, str] = NOTHING_GIVEN
) -> Remembered | None:
    """Return what was remembered if a reading would find the same now, else None. What cannot be read is not there."""
    sections = unseal(_path(layout, variant), _MAGIC, 3)
    try:
        bound, day, looked, environment, digest = read_values(next(sections))
        if bound != _bound(layout, variant, given) or day not in {"", today.isoformat()}:
            return None
        if digest != _look_again(looked, {name: os.environ.get(name, "") for name in environment}):
            return None
        plan = next(sections)
        found = _Plans(io.BytesIO(plan), _Recipes(next(sections))).load()
    except (*BROKEN, StopIteration):
        return None
    finally:
        sections.close()
    return found if isinstance(found, Remembered) else None


def remember(  # noqa: PLR0917  what a plan is bound to, and the plan
    layout: Layout,
    variant: str | None,
    today: date,
    found: Remembered,
    reads: Reads,
    given: Mapping[str, str] = NOTHING_GIVEN,
) -> None:
    """Remember what a reading has found that has looked at all of `reads`.

    Nothing is remembered of what is too young, and where nothing can be written.
    """
    _remember_hashes(layout, reads)
    for path in _code():
        reads.look(path)
    if reads.newest > reads.began - QUIET:
        return
    looked = tuple(
        "\0".join(paths).encode("utf-8", "surrogateescape") for paths in (reads.files, reads.targets, reads.kinds)
    )
    digest = _digest_of(reads.environment)
    for found_there in (reads.files, reads.targets, reads.kinds):
        for one in found_there.values():
            digest.update(one)
    refreshed = any(tier.config.refresh is not Refresh.NEVER for tier in found.plan.tiers.values())
    day = today.isoformat() if refreshed else ""
    header = pickle.dumps(
        (_bound(layout, variant, given), day, looked, tuple(reads.environment), digest.digest()), protocol=5
    )
    seal(_path(layout, variant), _MAGIC, (header, *_pickled(found)))


def recall_hashes(layout: Layout) -> Mapping[str, tuple[bytes, str]]:
    """Return the hashes of large files that are known, by path and with the identity that each had."""
    try:
        paths, identities, hashes = read_values(next(unseal(_hashes(layout), _HASHES_MAGIC, 1)))
        return dict(zip(paths, zip(identities, hashes, strict=True), strict=True))
    except (*BROKEN, StopIteration):
        return {}


def _remember_hashes(layout: Layout, reads: Reads) -> None:
    """Remember the hashes of large files, those that are too young for it left out; other variants' files stay for a while."""
    old = {path: (one, sha256) for path, (one, sha256) in reads.hashed.items() if changed(one) <= reads.began - QUIET}
    known = {**{path: one for path, one in reads.hashes.items() if path not in reads.hashed}, **old}
    if known == reads.hashes:
        return
    kept = list(known.items())[-_MOST_HASHES:]
    values = tuple(zip(*((path, one, sha256) for path, (one, sha256) in kept), strict=True)) or ((), (), ())
    seal(_hashes(layout), _HASHES_MAGIC, (pickle.dumps(values, protocol=5),))


def _hashes(layout: Layout) -> Path:
    return layout.state / "plans" / "hashes"


def _path(layout: Layout, variant: str | None) -> Path:
    name = hashlib.sha256(
        f"{layout.root}\0{'' if variant is None else f'={variant}'}".encode("utf-8", "surrogateescape")
    )
    return layout.state / "plans" / name.hexdigest()[:32]


def _bound(layout: Layout, variant: str | None, given: Mapping[str, str]) -> tuple[Any, ...]:
    """Return the values that a plan is bound to, and that no file holds."""
    return (__version__, sys.version, str(os.getuid()), str(layout.root), variant, tuple(sorted(given.items())))


def _digest_of(environment: Mapping[str, str]) -> hashlib.blake2b:
    """Return a hash that has begun with the variables of the environment."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for name, value in environment.items():
        digest.update(f"{name}={value}\0".encode("utf-8", "surrogateescape"))
    return digest


def _code() -> Iterator[str]:
    """Yield the files of the code that makes plans."""
    for folder in _CODE:
        yield from (str(path) for path in sorted((_PACKAGE / folder).glob("*.*")) if path.suffix in {".py", ".json"})
    parser = sys.modules.get("yaml")
    if parser is not None and parser.__file__ is not None:
        yield parser.__file__


def _look_again(looked: tuple[bytes, bytes, bytes], environment: Mapping[str, str]) -> bytes:
    """Return the hash of what lies now where a reading has looked, and of what the environment says."""
    digest = _digest_of(environment)
    files, targets, kinds = (text.decode("utf-8", "surrogateescape").split("\0") if text else [] for text in looked)
    for one in chain(_identities(files, os.lstat), _identities(targets, os.stat), map(kind_in_the_way, kinds)):
        digest.update(one)
    return digest.digest()


def _identities(paths: Iterable[str], look: Callable[[str], os.stat_result]) -> Iterator[bytes]:
    for path in paths:
        try:
            yield identity(look(path))
        except OSError:
            yield ABSENT


class _Recipes:
    """What the tiers are made of, unpacked when the first of them is asked for."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._recipes: Mapping[str, Recipe] | None = None

    def of(self, tier: str) -> Recipe:
        """Return a tier's. Raises PipelineError where that is not what was packed."""
        try:
            if self._recipes is None:
                self._recipes = _Plans(io.BytesIO(zlib.decompress(self._packed)), self).load()
            return self._recipes[tier]
        except (*BROKEN, zlib.error):
            what = "what is remembered of it cannot be read"
            raise PipelineError(Problem(tier, what, "remove .imagetiers/state/plans, which only saves time")) from None


class _Plans(pickle.Unpickler):
    """Reads plans, and no object of a class that is in none."""

    def __init__(self, file: io.BytesIO, recipes: _Recipes) -> None:
        super().__init__(file)
        self._recipes = recipes

    def persistent_load(self, pid: Any) -> Callable[[], Recipe]:
        """Return what stands apart: a tier's recipe."""
        return functools.partial(self._recipes.of, pid)

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return a class of those that a plan is made of. Raises UnpicklingError."""
        if global_name not in _CLASSES.get(module_name, ()):
            raise pickle.UnpicklingError(f"{module_name}.{global_name}")
        return getattr(sys.modules.get(module_name) or importlib.import_module(module_name), global_name)


class _Apart(str):
    """A tier whose recipe stands apart."""

    __slots__ = ()


class _Pickler(pickle.Pickler):
    """Writes plans, with the recipes left out of them, and recipes."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.dispatch_table = {
            MappingProxyType: _without_proxy,
            InputFile: _without_content,
            TierPlan: _without_recipe,
            **dict.fromkeys(_EACH_TIERS, _taken_apart),
        }

    def persistent_id(self, obj: Any) -> str | None:
        """Name what stands apart."""
        return str(obj) if type(obj) is _Apart else None


def _pickled(found: Remembered) -> tuple[bytes, bytes]:
    """Return the plan, and packed what its tiers are made of."""
    plan, recipes = io.BytesIO(), io.BytesIO()
    _Pickler(plan).dump(found)
    _Pickler(recipes).dump({name: tier.recipe() for name, tier in found.plan.tiers.items()})
    return plan.getvalue(), zlib.compress(recipes.getvalue(), level=1)


_EACH_TIERS = (
    Budget, Checks, Contexts, Forbidden, KeyDocument, PythonCheck, Recipe, Tier, Verify, VerifyPlan,
)  # fmt: skip
"""Of these there are as many as tiers."""


def _without_proxy(entries: Mapping[Any, Any]) -> tuple[Any, ...]:
    return (_mapping, (dict(entries),)) if entries else (_nothing, ())


def _mapping(entries: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(entries)


def _nothing() -> Mapping[Any, Any]:
    """Return the one empty mapping: most tiers have several."""
    return _NOTHING


def _without_recipe(tier: TierPlan) -> tuple[Any, ...]:
    values = {name: getattr(tier, name) for name in TierPlan.__slots__} | {"recipe": _Apart(tier.name)}
    return _put_together, (TierPlan, *values.values())


def _taken_apart(value: Any) -> tuple[Any, ...]:
    return _put_together, (type(value), *(getattr(value, name) for name in value.__slots__))


def _put_together(kind: type[_Value], *values: Any) -> _Value:
    """Return a frozen value with these fields; what dataclasses would do for a pickle takes ten times as long."""
    made = object.__new__(kind)
    for name, value in zip(kind.__slots__, values, strict=True):  # type: ignore[attr-defined]  # a dataclass with slots
        object.__setattr__(made, name, value)
    return made


def _without_content(file: InputFile) -> tuple[Any, ...]:
    content = file.content if file.link else None
    return InputFile, (file.path, file.sha256, file.size, file.executable, file.link, content)
