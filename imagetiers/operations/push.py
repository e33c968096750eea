"""push:<tier>: publish the image of a key, once for all builders, attest and sign it, and then move the friendly tags.

Two builders may push the same key at once, and a registry has no compare-and-swap. So the cache decides: the first one to
write `published/REFERENCE.json` has published *the* image of the key, and everybody puts the tag back to that and goes on
with it. Where the registry has immutable tags, it refuses the second push itself.
"""

from __future__ import annotations

import contextlib
import json

from imagetiers.building.preconditions import push_problems
from imagetiers.errors import EngineError, PreconditionError, Problem, RegistryError, StoreError, TagMovedError
from imagetiers.operations.attest import attest_image, signing_problems
from imagetiers.operations.dockerfiles import gate_problems
from imagetiers.operations.pull import fetch
from imagetiers.operations.scan import scan_problems
from imagetiers.operations.signed_parents import parent_signature_problems
from imagetiers.operations.verify import verify_image
from imagetiers.planning.keys import short
from imagetiers.planning.observed import Absent, ObservedState, Present, RegistryState, Unknown
from imagetiers.planning.plan import TierPlan
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.state.observe import observe
from imagetiers.state.registry import publication, publication_name

__all__ = ["push_image"]

_ROUNDS = 10


def push_image(session: Session, tier: TierPlan, *, force: bool = False) -> None:
    """Make sure that the registry holds one image of the tier's key, and that the friendly tags point to it.

    With `force`, a key tag that somebody has overwritten with another image is written all the same. Raises
    RegistryError, EngineError, VerifyError.
    """
    task = f"push:{tier.name}"
    RegistryError.raise_if(
        push_problems(session.plan, session.trust) or (*gate_problems(session, tier), *signing_problems(session, task))
    )
    with session.services.locks.hold(f"push-{tier.key}", task):
        seen = observe(session)
        found = seen.registered[tier.name]
        if found.unknown:
            raise RegistryError(
                Problem(task, f"the registry does not say what it holds: {found.unknown}", "nothing was pushed")
            )
        if found.blocked and not force:
            hint = f"find out who did that; remove the tag, or doit {task} --rebuild puts the right image there"
            raise RegistryError(Problem(task, found.wrong, hint))
        if not found.digest:
            RegistryError.raise_if((*parent_signature_problems(session, tier), *scan_problems(session, tier)))
        digest = _restore(session, tier, found) if found.digest else _publish(session, tier, seen)
        _agree_here(session, tier, digest)
        attest_image(session, tier, digest)
        for tag in tier.tags:
            if tag not in found.tags or digest != found.digest:
                session.services.registry.set_tag(tag, digest, tier.repository)
                session.services.console.line(f"{task}: {tag} -> {digest[:19]}")
    _share_layers(session, tier)


def _restore(session: Session, tier: TierPlan, found: RegistryState) -> str:
    """The key was published before: put right what is wrong with its tag or its record."""
    if found.wrong:
        session.services.console.line(f"push:{tier.name}: {found.wrong}")
    return _settle(session, tier, found.digest)


def _publish(session: Session, tier: TierPlan, seen: ObservedState) -> str:
    task = f"push:{tier.name}"
    image = seen.image(tier)
    if image is None:
        raise RegistryError(Problem(task, "there is no image of this key here", f"doit image:{tier.name}"))
    began = session.services.now()
    with session.services.console.progress(task) as bar:
        layers: dict[str, bool] = {}

        def take(line: str) -> None:
            layer, _, status = line.partition(" ")
            layers[layer] = layers.get(layer, False) or status.startswith(("Pushed", "Layer already", "Mounted"))
            bar.update(sum(layers.values()), len(layers), status)

        try:
            ours = session.services.engine.push(tier.ref, take)
        except RegistryError:
            answer = session.services.registry.look_up([tier.ref])[tier.ref]
            if not isinstance(answer, Present):
                raise
            ours = ""  # refused because somebody was first: registries with immutable tags say so
    digest = _settle(session, tier, ours)
    if digest == ours:
        session.services.console.line(
            f"{task}: {short(tier.key)} is {digest[:19]}, pushed in {session.services.now() - began:.0f} s"
        )
    return digest


def _settle(session: Session, tier: TierPlan, ours: str) -> str:
    """Let the tag, the record and everybody agree on one digest; return it. `ours` is empty when nothing was pushed."""
    for _ in range(_ROUNDS):
        answer = session.services.registry.look_up([tier.ref])[tier.ref]
        if isinstance(answer, Unknown):
            what = f"cannot be read back: {answer.reason}"
            raise RegistryError(Problem(f"push:{tier.name}", what, "run doit again: what was pushed is found then"))
        there = "" if isinstance(answer, Absent) else answer.digest
        winner = _claim(tier, ours or there, session.services)
        if winner == there:
            _check_labels(session, tier, answer)
            return winner
        with contextlib.suppress(TagMovedError):  # one more builder has pushed; the next round sees what is there now
            session.services.registry.set_tag(tier.ref, winner)
    raise RegistryError(Problem(f"push:{tier.name}", f"{tier.ref} changes all the time", "who else pushes there?"))


def _claim(tier: TierPlan, digest: str, services: Services) -> str:
    """Write that this digest is published, unless another one was; return the one that is.

    A record whose image the registry has lost is replaced. A cache that cannot be written decides nothing: then the tag does.
    """
    document = {"key": tier.key, "digest": digest, "at": round(services.now())}
    data = json.dumps(document, sort_keys=True).encode()
    for _ in range(_ROUNDS):
        try:
            record = publication(services, tier)
            if record is not None and record.digest == digest:
                return digest
            if record is not None and record.digest:
                ref = f"{tier.repository}@{record.digest}"
                answer = services.registry.look_up([ref])[ref]
                if isinstance(answer, Unknown):
                    raise RegistryError(Problem(f"push:{tier.name}", answer.reason))
                if isinstance(answer, Present):
                    return record.digest
            services.store.write(publication_name(tier), data, if_generation=record.generation if record else 0)
        except PreconditionError:
            continue
        except StoreError as error:
            services.console.line(f"push:{tier.name}: that it is published was not recorded: {error}")
        return digest
    raise RegistryError(Problem(f"push:{tier.name}", "its record of publication changes all the time"))


def _check_labels(session: Session, tier: TierPlan, answer: Present | Absent) -> None:
    if not isinstance(answer, Present):
        return
    info = session.services.registry.describe({tier.ref: answer}).get(tier.ref)
    if isinstance(info, Unknown):
        raise RegistryError(Problem(f"push:{tier.name}", f"cannot be read back: {info.reason}", "doit again"))
    if info is None or info.key != tier.key or not info.usable(session.trust):
        raise RegistryError(Problem(tier.ref, "was pushed by somebody else, and is not the image of this key"))


def _share_layers(session: Session, tier: TierPlan) -> None:
    """Keep the builder that has compiled here in the registry, for its layers. What fails costs other workers time, no more."""
    step, engine = tier.compile, session.services.engine
    if step is None or step.layers is None or not engine.has_image(step.builder):
        return
    began = session.services.now()
    try:
        engine.tag(step.builder, (step.layers,))
        try:
            engine.push(step.layers, lambda _: None)
        finally:
            engine.untag(step.layers)
    except (RegistryError, EngineError) as error:
        session.services.console.line(f"push:{tier.name}: the builder's layers are not shared: {error}")
        return
    seconds = session.services.now() - began
    session.services.console.line(f"push:{tier.name}: the builder's layers are in {step.layers}, after {seconds:.0f} s")


def _agree_here(session: Session, tier: TierPlan, digest: str) -> None:
    """Take the published image in the place of our own, when it is another one, and make sure that it was verified."""
    seen = observe(session)
    image, published = seen.image(tier), seen.published(tier)
    known = {digest, *(published.ids if published is not None else ())}
    adopted = image is not None and not known & set(image.ids)
    if adopted:
        session.services.console.line(
            f"push:{tier.name}: another builder was first with this key, its {digest[:19]} is adopted"
        )
        fetch(session, tier, digest)
    if not observe(session).verified(tier):
        verify_image(session, tier)
    elif adopted:
        session.services.engine.tag(tier.ref, tier.tags)
