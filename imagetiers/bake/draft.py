"""A target on its way to a tier, and what is found on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from imagetiers.bake.model import BakeTarget
from imagetiers.dockerfile.model import Dockerfile

__all__ = ["Draft", "Notes"]


@dataclass(slots=True)
class Notes:
    """What of the bake file is not in the pipeline, and what is said otherwise there."""

    left: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Draft:
    """A tier that a target becomes. `marked` is the target with marks of variables, None: nobody can tell.

    `contexts` are as pipeline.yaml has them. `alias` is what its Dockerfile calls the parent's image. `marked_bases` are
    `bases` with marks of variables, as far as these are known.
    """

    name: str
    target: BakeTarget
    marked: BakeTarget | None
    text: str
    dockerfile: Dockerfile
    parent: str | None = None
    alias: str | None = None
    bases: dict[str, str] = field(default_factory=dict)
    marked_bases: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    contexts: dict[str, Mapping[str, str]] = field(default_factory=dict)
    manifest: list[str] = field(default_factory=list)
    folder: str = ""

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"target {self.target.name}"

    @property
    def made_from(self) -> tuple[str, ...]:
        """The tiers whose images it is made from."""
        parent = (self.parent,) if self.parent is not None else ()
        return (*parent, *(context["tier"] for context in self.contexts.values() if "tier" in context))

    @property
    def context(self) -> PurePosixPath:
        """The folder that is its build context."""
        return PurePosixPath(self.target.context)
