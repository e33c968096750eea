"""push:<tier>: publish the image of a key, once for all builders, and then move the friendly tags.

Two builders may push the same key at once, and a registry has no compare-and-swap. So the cache decides: the first one to
write `published/REFERENCE.json` has published *the* image of the key, and everybody puts the tag back to that and goes on
with it. Where the registry has immutable tags, it refuses the second push itself.
"""

from __future__ import annotations

import contextlib
import json

from imagetiers.errors import PreconditionError, Problem, RegistryError, StoreError, TagMovedError
from imagetiers.keys import short
from imagetiers.layout import Layout
from imagetiers.plan import Absent, Plan, Present, Registered, Seen, TierPlan, Unknown
from imagetiers.ports import World
from imagetiers.steps.fetch import fetch
from imagetiers.steps.guard import push_problems
from imagetiers.steps.registered import publication, publication_name
from imagetiers.steps.survey import survey
from imagetiers.steps.verify import verify_image

__all__ = ["push_image"]

_ROUNDS = 10


def push_image(plan: Plan, tier: TierPlan, layout: Layout, world: World, *, again: bool = False) -> None:
    """Make sure that the registry holds one image of the tier's key, and that the friendly tags point to it.

    With `again`, a key tag that somebody has overwritten with another image is written all the same. Raises
    RegistryError, EngineError, VerifyError.
    """
    task = f"push:{tier.name}"
    RegistryError.raise_if(push_problems(plan, world.trust))
    with world.locks.hold(f"push-{tier.key}", task):
        seen = survey(plan, layout, world)
        found = seen.registered[tier.name]
        if found.unknown:
            raise RegistryError(
                Problem(task, f"the registry does not tell what it holds: {found.unknown}", "nothing was pushed")
            )
        if found.blocked and not again:
            hint = f"find out who did that; remove the tag, or doit {task} --rebuild puts the right image there"
            raise RegistryError(Problem(task, found.wrong, hint))
        digest = _restore(tier, found, world) if found.digest else _publish(tier, seen, world)
        _agree_here(plan, tier, digest, layout, world)
        for tag in tier.tags:
            if tag not in found.tags or digest != found.digest:
                world.registry.point(tag, digest, tier.repository)
                world.console.line(f"{task}: {tag} -> {digest[:19]}")


def _restore(tier: TierPlan, found: Registered, world: World) -> str:
    """The key was published before: put right what is wrong with its tag or its record."""
    if found.wrong:
        world.console.line(f"push:{tier.name}: {found.wrong}")
    return _settle(tier, found.digest, world)


def _publish(tier: TierPlan, seen: Seen, world: World) -> str:
    task = f"push:{tier.name}"
    image = seen.image(tier)
    if image is None:
        raise RegistryError(Problem(task, "there is no image of this key here", f"doit image:{tier.name}"))
    began = world.now()
    with world.console.progress(task) as bar:
        layers: dict[str, bool] = {}

        def take(line: str) -> None:
            layer, _, status = line.partition(" ")
            layers[layer] = layers.get(layer, False) or status.startswith(("Pushed", "Layer already", "Mounted"))
            bar.update(sum(layers.values()), len(layers), status)

        try:
            ours = world.engine.push(tier.ref, take)
        except RegistryError:
            answer = world.registry.look_up([tier.ref])[tier.ref]
            if not isinstance(answer, Present):
                raise
            ours = ""  # refused because somebody was first: registries with immutable tags say so
    digest = _settle(tier, ours, world)
    if digest == ours:
        world.console.line(f"{task}: {short(tier.key)} is {digest[:19]}, pushed in {world.now() - began:.0f} s")
    return digest


def _settle(tier: TierPlan, ours: str, world: World) -> str:
    """Let the tag, the record and everybody agree on one digest; return it. `ours` is empty when nothing was pushed."""
    for _ in range(_ROUNDS):
        answer = world.registry.look_up([tier.ref])[tier.ref]
        if isinstance(answer, Unknown):
            what = f"cannot be read back: {answer.reason}"
            raise RegistryError(Problem(f"push:{tier.name}", what, "run doit again: what was pushed is found then"))
        there = "" if isinstance(answer, Absent) else answer.digest
        winner = _claim(tier, ours or there, world)
        if winner == there:
            _check_labels(tier, answer, world)
            return winner
        with contextlib.suppress(TagMovedError):  # one more builder has pushed; the next round sees what is there now
            world.registry.point(tier.ref, winner)
    raise RegistryError(Problem(f"push:{tier.name}", f"{tier.ref} changes all the time", "who else pushes there?"))


def _claim(tier: TierPlan, digest: str, world: World) -> str:
    """Write that this digest is published, unless another one was; return the one that is.

    A record whose image the registry has lost is replaced. A cache that cannot be written decides nothing: then the tag does.
    """
    document = {"key": tier.key, "digest": digest, "at": round(world.now())}
    data = json.dumps(document, sort_keys=True).encode()
    for _ in range(_ROUNDS):
        try:
            record = publication(world, tier)
            if record is not None and record.digest == digest:
                return digest
            if record is not None and record.digest:
                ref = f"{tier.repository}@{record.digest}"
                answer = world.registry.look_up([ref])[ref]
                if isinstance(answer, Unknown):
                    raise RegistryError(Problem(f"push:{tier.name}", answer.reason))
                if isinstance(answer, Present):
                    return record.digest
            world.store.write(publication_name(tier), data, if_generation=record.generation if record else 0)
        except PreconditionError:
            continue
        except StoreError as error:
            world.console.line(f"push:{tier.name}: that it is published was not recorded: {error}")
        return digest
    raise RegistryError(Problem(f"push:{tier.name}", "its record of publication changes all the time"))


def _check_labels(tier: TierPlan, answer: Present | Absent, world: World) -> None:
    if not isinstance(answer, Present):
        return
    info = world.registry.describe({tier.ref: answer}).get(tier.ref)
    if isinstance(info, Unknown):
        raise RegistryError(Problem(f"push:{tier.name}", f"cannot be read back: {info.reason}", "doit again"))
    if info is None or info.key != tier.key or not info.usable(world.trust):
        raise RegistryError(Problem(tier.ref, "was pushed by somebody else, and is not the image of this key"))


def _agree_here(plan: Plan, tier: TierPlan, digest: str, layout: Layout, world: World) -> None:
    """Take the published image in the place of our own, when it is another one, and make sure that it was verified."""
    seen = survey(plan, layout, world)
    image, published = seen.image(tier), seen.published(tier)
    same = published is not None and image is not None and image.id == published.image
    if image is not None and not same and f"{tier.repository}@{digest}" not in image.digests:
        world.console.line(f"push:{tier.name}: another builder was first with this key, its {digest[:19]} is adopted")
        fetch(tier, digest, world)
    if not survey(plan, layout, world).verified(tier):
        verify_image(plan, tier, layout, world)
