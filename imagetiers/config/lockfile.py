"""pipeline.lock.yaml as text: written whole, from the pins alone. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["GIT", "IMAGES", "PinChange", "changes", "lock_text"]

IMAGES, GIT = "images", "git"  # the sections
_HEADER = "# Written by `doit lock`, which replaces the whole file: comments do not stay.\n"
_ABOVE = {
    IMAGES: "# Outside images: reference -> digest.",
    GIT: "# Git refs: repository#ref -> commit.",
}


@dataclass(frozen=True, slots=True)
class PinChange:
    """One pin that is not what it was; None = there was or is none."""

    ref: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        lines = [f"  {self.ref}"]
        lines += [f"    - {self.before}"] if self.before else []
        lines += [f"    + {self.after}"] if self.after else []
        return "\n".join(lines)


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[PinChange, ...]:
    """Return what differs, by reference."""
    return tuple(
        PinChange(ref, before.get(ref), after.get(ref))
        for ref in sorted({*before, *after})
        if before.get(ref) != after.get(ref)
    )


def lock_text(images: Mapping[str, str], commits: Mapping[str, str]) -> str:
    """Return the file that holds these pins; equal pins give equal texts. Without git refs there is no section for them."""
    sections = {IMAGES: images} | ({GIT: commits} if commits else {})
    return "\n".join([_HEADER, *("\n".join([*_section(name, pins), ""]) for name, pins in sections.items())])


def _section(name: str, pins: Mapping[str, str]) -> Iterator[str]:
    yield _ABOVE[name]
    yield f"{name}:" if pins else f"{name}: {{}}"
    for ref, pin in sorted(pins.items()):
        yield f"  {json.dumps(ref)}: {pin}"  # quoted: YAML has an opinion on texts such as 12:30
