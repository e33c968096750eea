"""What was found where it was looked for: on the engine, in the registry, in folders. Values, without a plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from imagetiers.config.model import Trust

__all__ = [
    "Absent",
    "Answer",
    "CacheRecord",
    "ImageInfo",
    "ObservedState",
    "Present",
    "RegistryState",
    "Sought",
    "Stored",
    "StoredImage",
    "Unknown",
]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image that the engine holds. `created` in Unix seconds, `key_document` as JSON.

    `id` is what the engine calls it: the digest of its configuration, or of its manifest in containerd's image store. `size`
    are the bytes of its layers, unpacked; `digests` those of its manifest, each behind a repository that has it.
    """

    id: str
    refs: tuple[str, ...]
    pipeline: str
    variant: str
    tier: str
    key: str
    created: int
    size: int
    key_document: str = ""
    trust: str = ""
    digests: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """What engines call it, as far as this one knows; its own word for it is the first."""
        return tuple(dict.fromkeys((self.id, *(digest.rpartition("@")[2] for digest in self.digests))))

    def usable(self, trust: Trust) -> bool:
        """Say whether a build of that trust may take it: what pull requests have built is for themselves alone."""
        return self.trust in {Trust().label, trust.label}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image with what it takes on the engine, ours or not: what no label tells of it is empty in `info`.

    `compile_key` is a builder's. `used` is when it was built or last tagged (Unix s). `layers` are chain IDs (a layer with
    all below it) and bytes, the first one first; of an image without our labels no bytes. `held`: there is a container of it.
    """

    info: ImageInfo
    compile_key: str
    used: float
    layers: tuple[tuple[str, int], ...]
    held: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """All images of an engine, and the compile keys that have a container there, running or not."""

    images: tuple[StoredImage, ...] = ()
    compiling: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """A layer that BuildKit keeps, `size` in bytes. `shared`: an image has it, too, so that it goes only when both do."""

    id: str
    size: int
    shared: bool


@dataclass(frozen=True, slots=True)
class Present:
    """The registry has it: the manifest's digest, the image's id, and the bytes that a pull would fetch at most.

    `layers` are the digests and bytes of which these are the sum, the first one first.
    """

    digest: str
    image: str = ""
    size: int = 0
    layers: tuple[tuple[str, int], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Absent:
    """The registry says that it does not have it."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The registry did not say (401, 403, 5xx, a time-out). Never taken for absent."""

    reason: str


Answer = Present | Absent | Unknown


@dataclass(frozen=True, slots=True)
class RegistryState:
    """What a registry holds of a tier's key.

    `digest` is the image that can be used, empty when there is none; `image` its id, `size` the bytes to pull, `tags` the
    friendly tags that point to it. `wrong` says what is not as it was published (a tag that was removed or overwritten),
    `blocked` that the key's tag holds something else. `unknown` says why nobody can tell. `bare` says what pipeline.yaml asks
    for beside the image and is not there; `signed`, whether there is a signature, None where nobody signs or nobody can tell.
    """

    digest: str = ""
    image: str = ""
    size: int = 0
    tags: frozenset[str] = frozenset()
    wrong: str = ""
    blocked: bool = False
    unknown: str = ""
    bare: str = ""
    signed: bool | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """What engines call the image: by its configuration, or with containerd's image store by its manifest."""
        return (self.image, self.digest) if self.digest else ()


class _Checks(Protocol):
    @property
    def check(self) -> str: ...


class Sought(Protocol):
    """What must be known of a tier to look for it: a plan has it, and these values need no more of one."""

    @property
    def name(self) -> str:
        """The tier's name."""
        ...

    @property
    def ref(self) -> str:
        """The reference by key."""
        ...

    @property
    def key(self) -> str:
        """The tier's key."""
        ...

    @property
    def verify(self) -> _Checks:
        """Its checks, by their hash."""
        ...


@dataclass(frozen=True, slots=True)
class ObservedState:
    """What was found when it was looked for. `unknown` says why nobody could tell (the engine is down).

    `registered` is by tier, and empty where the pipeline has no registry; `trust` is whose eyes they are. `made`
    say by tier why what it makes does not lie where it goes; nothing where it does. `notes` are
    lines about what could not be read or kept on this machine.
    """

    images: Mapping[str, ImageInfo] = field(default_factory=dict)
    wheels: frozenset[str] = frozenset()
    verdicts: frozenset[tuple[str, str]] = frozenset()
    forced: frozenset[str] = frozenset()
    unknown: str | None = None
    registered: Mapping[str, RegistryState] = field(default_factory=dict)
    trust: Trust = field(default_factory=Trust)
    made: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def image(self, tier: Sought) -> ImageInfo | None:
        """Return the image that holds this very key under this very reference."""
        image = self.images.get(tier.ref)
        return image if image is not None and image.key == tier.key and image.usable(self.trust) else None

    def published(self, tier: Sought) -> RegistryState | None:
        """Return what the registry holds of the key, when there is an image that can be used."""
        found = self.registered.get(tier.name)
        return found if found is not None and found.digest else None

    def verified(self, tier: Sought) -> bool:
        """Say whether the image is there and these very checks have passed on it."""
        return any((id_, tier.verify.check) in self.verdicts for id_ in self.ids(tier))

    def ids(self, tier: Sought) -> tuple[str, ...]:
        """Return what engines call the tier's image, here or else in the registry; this engine's own word is the first.

        What is known of an image (that it has passed, what a scan found) was kept under the word of the engine that had it.
        """
        image, published = self.image(tier), self.published(tier)
        here, there = image.ids if image is not None else (), published.ids if published is not None else ()
        return here if here and not set(here) & set(there) else tuple(dict.fromkeys((*here, *there)))
