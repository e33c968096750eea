"""Whether a tier's named contexts and its Dockerfile fit together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from imagetiers.config.model import Tier
from imagetiers.config.references import repository_of
from imagetiers.dockerfile.model import SCRATCH, Dockerfile
from imagetiers.errors import Problem

__all__ = ["named_context_problems"]

_LIBRARY = "docker.io/library/"  # what a name without a host and a path stands for


def named_context_problems(
    tier: Tier, dockerfile: Dockerfile, used: Collection[str], base: str, place: Callable[[str], str]
) -> Iterator[Problem]:
    """Yield what is wrong with a tier's contexts, of which those that are `used` are taken from.

    `base` is what the image stands on. `place` says where a context is written.
    """
    for name, context in tier.contexts.items():
        where = place(name)
        stage = dockerfile.stage(name)
        if stage is not None:
            what = f"has the name of the stage in {dockerfile.name}:{stage.line}, which nobody would reach any more"
            yield Problem(where, what, "rename one of the two")
        elif name == SCRATCH:
            yield Problem(where, f"'{SCRATCH}' is the name of the empty image", "choose another name")
        elif meant := [ref for ref in tier.bases.values() if _short(ref) == name]:
            what = f"BuildKit would take it for the image {meant[0]} of bases, too"
            yield Problem(where, what, "rename the context, or name another tag than latest")
        elif name not in used:
            what = f"nothing that is built takes from '{name}'"
            yield Problem(where, what, f"COPY --from={name} ... in {dockerfile.name}, or remove it")
        elif name == base and context.tier is not None:
            what = "the image stands on this tier, but has not its checks: only a parent's are asked of its children"
            yield Problem(where, what, f"parent: {context.tier}, then ARG PARENT and FROM ${{PARENT}}")


def _short(ref: str) -> str:
    """Return an image's reference as BuildKit looks contexts up by: without what goes without saying."""
    name = ref if "@" in ref else ref.removesuffix(":latest")
    return name.removeprefix(_LIBRARY) if repository_of(name).startswith(_LIBRARY) else name
