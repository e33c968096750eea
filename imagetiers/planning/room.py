"""Which images of a pipeline may go from an engine, and how much room comes back with them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from imagetiers.config.model import Trust
from imagetiers.documents import parse_object
from imagetiers.planning.housekeeping import Item
from imagetiers.planning.keys import short
from imagetiers.planning.observed import StoredImage
from imagetiers.planning.plan import Plan

__all__ = [
    "BRANCHES",
    "BUILDERS",
    "IMAGES",
    "builds_of_others",
    "image_items",
    "needed_images",
    "plan_keys",
    "room",
    "wheels_of",
]

IMAGES, BUILDERS, BRANCHES = "images", "builder images", "images of branches"
_BUILDS = ("compile", "image", "pull")
"""What a lock is for whose holder may need images and wheels that are here; its name goes on with the key."""


def plan_keys(plans: Iterable[Plan]) -> frozenset[str]:
    """Return the keys of all tiers and compiles."""
    tiers = [tier for plan in plans for tier in plan.tiers.values()]
    return frozenset(tier.key for tier in tiers) | {tier.compile.key for tier in tiers if tier.compile is not None}


def builds_of_others(held: Iterable[str], keys: Collection[str]) -> tuple[str, ...]:
    """Return the locks of builds of keys that are not known: what such a build needs, nobody can tell."""
    parted = {name: name.partition("-") for name in held}
    return tuple(sorted(name for name, (verb, _, key) in parted.items() if verb in _BUILDS and key not in keys))


def image_items(
    images: Iterable[StoredImage], pipeline: str, trust: Trust, repositories: Collection[str] = ()
) -> list[Item]:
    """Return the pipeline's images and builder images as items, by id; they are counted by tier, variant and trust.

    Its own are those that it has named, after itself or by one of the `repositories` that tiers have of their own: an image
    that somebody has made FROM one has its labels, too. To an untrusted
    build belong only the images that its branch has built; those of branches are a kind of their own, for branches come and go.
    """
    items = []
    for image in images:
        info = image.info
        if not _named_by(image, pipeline, repositories) or (
            not trust.trusted and (image.compile_key or info.trust != trust.label)
        ):
            continue
        if image.compile_key:
            kind, group = BUILDERS, info.refs[0].rpartition(":")[0]
        else:
            kind = BRANCHES if info.trust not in {"", trust.label} else IMAGES
            group = f"{info.tier}/{info.variant}/{info.trust}"
        items.append(Item(info.id, kind, info.size, image.used, group=group))
    return items


def _named_by(image: StoredImage, pipeline: str, repositories: Collection[str]) -> bool:
    """Say whether the pipeline has given an image one of its names. A builder's other labels may be its parent's."""
    refs = image.info.refs
    if image.compile_key:
        return any(ref.startswith(f"{pipeline}/") for ref in refs)
    ours, named = f"/{pipeline}/{image.info.tier}", [ref.rpartition(":")[0] for ref in refs]
    own = image.info.pipeline == pipeline and any(name in repositories for name in named)
    return bool(image.info.key) and (own or any(f"/{name}".endswith(ours) for name in named))


def needed_images(images: Iterable[StoredImage], keys: Collection[str]) -> set[str]:
    """Return the ids of images that stay: of these keys, with a container, or with a name other than that by key.

    Such a name is the tag that a tier's verified image has, or one that somebody has given.
    """
    needed = set()
    for image in images:
        key = image.compile_key or image.info.key
        named = any(ref.rpartition(":")[2] != short(key) for ref in image.info.refs)
        if key in keys or image.held or named:
            needed.add(image.info.id)
    return needed


def wheels_of(images: Iterable[StoredImage], ids: Collection[str]) -> Iterator[str]:
    """Yield the compile keys of the wheels that images of these ids were made with."""
    for image in images:
        if image.info.id in ids:
            wheels = (parse_object(image.info.key_document.encode()) or {}).get("wheels")
            if isinstance(wheels, str):
                yield wheels


def room(images: Iterable[StoredImage], going: Collection[str]) -> int:
    """Return the bytes of the layers that no image has but those that are `going` (ids), each of them once."""
    layers: dict[str, int] = {}
    staying: set[str] = set()
    for image in images:
        if image.info.id in going:
            layers |= dict(image.layers)
        else:
            staying |= {chain for chain, _ in image.layers}
    return sum(size for chain, size in layers.items() if chain not in staying)
