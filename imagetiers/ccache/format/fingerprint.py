"""The toolchain fingerprint: everything that makes a compiler cache go cold, and its difference said in words.

ccache itself says only "miss". A run of a compile step records this value beside its working set; when the next run is
cold, the difference between the two names the cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from imagetiers.errors import CorruptError

__all__ = ["Compiler", "Fingerprint"]

_ITEMS_MAX = 10_000
_TEXT_MAX = 10_000
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler as ccache sees it: the version that it prints, and the SHA-256 of its binary in hex."""

    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What decides whether ccache hits. `paths` are hashed paths (source and build folder) by their role."""

    compilers: Mapping[str, Compiler] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    source: str = ""
    ccache_version: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)

    def differences(self, old: Fingerprint) -> tuple[str, ...]:
        """Say what changed since `old`, most likely cause of a cold cache first; empty when nothing did."""
        return tuple(_differences(old, self))

    def as_json(self) -> dict[str, Any]:
        """Return the value as JSON types."""
        return {
            "compilers": {name: [c.version, c.sha256] for name, c in self.compilers.items()},
            "flags": list(self.flags),
            "arches": list(self.arches),
            "source": self.source,
            "ccache_version": self.ccache_version,
            "settings": dict(self.settings),
            "paths": dict(self.paths),
        }

    @classmethod
    def from_json(cls, value: Any) -> Fingerprint:
        """Read what `as_json` made. Raises CorruptError."""
        try:
            value = _few(value)
            return cls(
                {_text(name): Compiler(_text(v), _text(h)) for name, (v, h) in _few(value["compilers"]).items()},
                tuple(map(_text, _few(value["flags"]))),
                tuple(map(_text, _few(value["arches"]))),
                _text(value["source"]),
                _text(value["ccache_version"]),
                {_text(name): _text(setting) for name, setting in _few(value["settings"]).items()},
                {_text(name): _text(path) for name, path in _few(value["paths"]).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CorruptError.of("", "a toolchain fingerprint is garbled") from None


def _differences(old: Fingerprint, new: Fingerprint) -> Iterator[str]:
    if _release(old.ccache_version) != _release(new.ccache_version):
        versions = f"{old.ccache_version or 'unknown'} -> {new.ccache_version or 'unknown'}"
        yield f"ccache {versions}: its keys are made differently"
    for name in sorted({*old.compilers, *new.compilers}):
        before, after = old.compilers.get(name), new.compilers.get(name)
        if before is None or after is None:
            yield f"{name} {'removed' if after is None else f'added ({after.version})'}"
        elif before.version != after.version:
            yield f"{name} {before.version} -> {after.version}"
        elif before.sha256 != after.sha256:
            binaries = f"{before.sha256[:_SHORT]} -> {after.sha256[:_SHORT]}"
            yield f"{name} {after.version}: same version, other binary ({binaries})"
    yield from _of_lists("arch list", old.arches, new.arches)
    yield from _of_lists("flags", old.flags, new.flags)
    yield from _of_maps("path of", old.paths, new.paths)
    yield from _of_maps("ccache setting", old.settings, new.settings)
    if old.source != new.source:
        yield f"source {old.source or 'unknown'} -> {new.source or 'unknown'}"


def _of_lists(what: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[str]:
    if old == new:
        return
    added = [item for item in new if item not in old]
    removed = [item for item in old if item not in new]
    parts = [f"added {' '.join(added)}"] if added else []
    parts += [f"removed {' '.join(removed)}"] if removed else []
    yield f"{what}: {', '.join(parts) or 'same items in another order or number'}"


def _of_maps(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield f"{what} {name}: {old.get(name, 'not set')} -> {new.get(name, 'not set')}"


def _release(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _few(value: Any) -> Any:
    if not isinstance(value, dict | list) or len(value) > _ITEMS_MAX:
        raise ValueError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        raise TypeError
    return value
