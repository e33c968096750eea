"""What the registry holds of each key: looked up in one batch, and held against labels and the record of publication.

A tag alone proves little: it may have been removed, garbage-collected or overwritten. So the image behind it must carry
the key as a label, and `published/REFERENCE.json` in the cache, written once and first come first served, says which
digest is *the* image of that key. With the registry's own bytes by digest that is enough to see what went wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from imagetiers.config.model import Trust
from imagetiers.documents import is_digest, parse_object
from imagetiers.errors import NotFoundError, StoreError, UntrustedError
from imagetiers.patience import in_parallel
from imagetiers.planning.attachments import KINDS
from imagetiers.planning.keys import short
from imagetiers.planning.observed import Absent, Answer, ImageInfo, ObservedState, Present, RegistryState, Unknown
from imagetiers.planning.plan import TierPlan
from imagetiers.services import Services
from imagetiers.session import Session

if TYPE_CHECKING:
    from imagetiers.planning.device_code import DeviceLibrary
    from imagetiers.planning.sizes import LayerSize

__all__ = [
    "Publication",
    "Verdict",
    "passed",
    "passed_before",
    "publication",
    "publication_name",
    "registered",
    "verdict_name",
]

_THREADS = 64  # a request waits for the network, and does nothing
_PAIR = 2


@dataclass(frozen=True, slots=True)
class Publication:
    """The record of a key that was published; `digest` is empty when it cannot be read. `generation` is its own."""

    digest: str
    generation: int


def publication_name(tier: TierPlan) -> str:
    """Return the name under which the cache keeps which digest was published for a key."""
    return f"published/{tier.ref}.json"


def publication(services: Services, tier: TierPlan) -> Publication | None:
    """Return the record of the key's publication, None when it was never published. Raises StoreError."""
    try:
        data, generation = services.store.read(publication_name(tier))
    except NotFoundError:
        return None
    except UntrustedError as error:
        if not error.generation:
            raise
        services.console.line(f"{tier.name}: the record of its publication does not count: {error}")
        return Publication("", error.generation)
    document = parse_object(data) or {}
    digest = document.get("digest")
    good = document.get("key") == tier.key and is_digest(digest)
    return Publication(str(digest) if good else "", generation)


def registered(session: Session, seen: ObservedState) -> Mapping[str, RegistryState]:
    """Ask the registry for every tier's key (and the friendly tags, if this build may move them)."""
    tiers = tuple(tier for tier in session.plan.tiers.values() if tier.config.output is None)
    friendly = [tag for tier in tiers for tag in tier.tags] if session.trust.trusted else []
    answers = dict(session.services.registry.look_up([*(tier.ref for tier in tiers), *friendly]))
    doubtful = [tier for tier in tiers if not _known_here(tier, answers[tier.ref], seen)]
    asked = {tier.name for tier in doubtful}
    records = dict(
        zip(
            (t.name for t in doubtful),
            in_parallel(lambda t: _record(session.services, t), doubtful, _THREADS),
            strict=True,
        )
    )
    by_digest = {
        name: f"{session.plan.tiers[name].repository}@{record.digest}" for name, record in records.items() if record
    }
    answers |= session.services.registry.look_up(by_digest.values())
    wanted = {
        ref: answer
        for tier in doubtful
        for ref in (tier.ref, by_digest.get(tier.name, tier.ref))
        if isinstance(answer := answers[ref], Present)
    }
    infos = session.services.registry.describe(wanted)
    found = {}
    for tier in tiers:
        answer = answers[tier.ref]
        if tier.name in asked:
            ref = by_digest.get(tier.name, "")
            one = _judge(
                tier,
                _usable(tier, answer, infos.get(tier.ref), session.trust),
                records[tier.name],
                _usable(tier, answers.get(ref, Absent()), infos.get(ref), session.trust),
            )
        else:
            assert isinstance(answer, Present)  # noqa: S101  as _known_here has said
            one = RegistryState(answer.digest, answer.image, answer.size)
        pointing = {tag for tag in tier.tags if _is(answers.get(tag), one.digest)}
        found[tier.name] = replace(one, tags=frozenset(pointing))
    published = {
        name: f"{session.plan.tiers[name].repository}@{one.digest}" for name, one in found.items() if one.digest
    }
    signed = _signed(session, published)
    bare = _bare(session, published, signed)
    return {name: replace(one, bare=bare.get(name, ""), signed=signed.get(name)) for name, one in found.items()}


def _signed(session: Session, refs: Mapping[str, str]) -> Mapping[str, bool]:
    """Say by tier whether there is a signature of its published image, `repository@digest`, where this build would sign it.

    Whose it is, a push asks, and so does whoever verifies.
    """
    settings = session.plan.pipeline.supply_chain
    if settings is None or settings.sign is None or not session.trust.trusted:
        return {}
    signatures = {name: f"{ref.replace('@sha256:', ':sha256-')}.sig" for name, ref in refs.items()}
    answers = session.services.registry.look_up(signatures.values())
    found = {name: answers[ref] for name, ref in signatures.items()}
    return {name: isinstance(answer, Present) for name, answer in found.items() if not isinstance(answer, Unknown)}


def _bare(session: Session, refs: Mapping[str, str], signed: Mapping[str, bool]) -> Mapping[str, str]:
    """Say by tier what is not there beside its published image, `repository@digest`, where this build would put it there.

    Signatures are written last, so that one stands for all the rest.
    """
    settings, registry = session.plan.pipeline.supply_chain, session.services.registry
    if settings is None or not session.trust.trusted:
        return {}
    if settings.sign is not None:
        return {name: "it is not signed" for name, there in signed.items() if not there}
    wanted = {KINDS[name].media_type for name in settings.attach}
    names = list(refs)
    lists = in_parallel(lambda name: registry.referrers(refs[name]), names, _THREADS)
    return {
        name: "what it is made of and how is not attached to it"
        for name, there in zip(names, lists, strict=True)
        if isinstance(there, tuple) and not wanted <= {each.kind for each in there}
    }


def verdict_name(tier: TierPlan, image: str, trust: Trust) -> str:
    """Return the name under which the cache keeps that an image (its id) has passed the tier's checks."""
    return f"{trust.prefix}verdicts/{image.removeprefix('sha256:')}/{tier.verify.check}.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """That an image has passed its checks: which ones, by the tier that asks, what its libraries hold for GPUs, and its layers.

    Of layers there are none where no check has read them.
    """

    checks: tuple[tuple[str, str], ...] = ()
    libraries: tuple[DeviceLibrary, ...] = ()
    layers: tuple[LayerSize, ...] = ()


def passed_before(session: Session, tier: TierPlan, *image: str) -> Verdict | None:
    """Ask the cache whether the image, by its ids, has passed these very checks. What it cannot tell has not passed.

    Of two verdicts a trusted build's counts; an untrusted build's only for itself.
    """
    for id_, trust in product(image, dict.fromkeys((Trust(), session.trust))):
        try:
            data, _ = session.services.store.read(verdict_name(tier, id_, trust))
            verdict = _read_verdict(parse_object(data) or {})
            if verdict is not None:
                return verdict
        except NotFoundError:
            continue
        except StoreError as error:
            session.services.console.line(
                f"verify:{tier.name}: the cache does not say ({error}), so the checks are run"
            )
            break
    return None


def _read_verdict(document: Mapping[str, Any]) -> Verdict | None:
    if document.get("passed") is not True:
        return None
    from imagetiers.planning.device_code import read_library

    checks, libraries = document.get("checks"), document.get("device_code")
    found = [read_library(each) for each in libraries] if isinstance(libraries, list) else []
    return Verdict(
        tuple((str(each[0]), str(each[1])) for each in checks if isinstance(each, list) and len(each) == _PAIR)
        if isinstance(checks, list)
        else (),
        tuple(library for library in found if library is not None),
        _layers(document.get("layers")),
    )


def _layers(listed: object) -> tuple[LayerSize, ...]:
    """Read a verdict's layers; none where one of them is no such."""
    from imagetiers.planning.sizes import LayerSize

    found: list[LayerSize] = []
    for each in listed if isinstance(listed, list) else ():
        match each:
            case [int() as size, int() as twice, str() as instruction] if 0 <= twice <= size:
                found.append(LayerSize(size, twice, instruction))
            case _:
                return ()
    return tuple(found)


def passed(session: Session, seen: ObservedState) -> frozenset[tuple[str, str]]:
    """Return the cache's verdicts (image, check) on images that only the registry holds, where none is known here."""
    asked = [
        (tier, published)
        for tier in session.plan.tiers.values()
        if tier.config.output is None
        and not seen.verified(tier)
        and seen.image(tier) is None
        and (published := seen.published(tier)) is not None
    ]
    verdicts = in_parallel(lambda pair: passed_before(session, pair[0], *pair[1].ids), asked, _THREADS)
    return frozenset(
        (published.image, tier.verify.check)
        for (tier, published), good in zip(asked, verdicts, strict=True)
        if good is not None
    )


def _known_here(tier: TierPlan, answer: Answer, seen: ObservedState) -> bool:
    """Say whether the tag holds the very image that this machine has pushed or pulled: nothing more need be asked."""
    image = seen.image(tier)
    return isinstance(answer, Present) and image is not None and f"{tier.repository}@{answer.digest}" in image.digests


def _usable(tier: TierPlan, answer: Answer, info: ImageInfo | Unknown | None, trust: Trust) -> Answer | str:
    """Return the answer; for an image that is not of this key the words for what it is instead."""
    if not isinstance(answer, Present):
        return answer
    if isinstance(info, Unknown):
        return info
    if info is None or not info.key:
        return "an image that imagetiers has not built"
    if info.key != tier.key:
        return f"an image of another key ({info.tier} {short(info.key)})"
    if not info.usable(trust):
        return f"an image that was built by {info.trust}"
    return answer


def _judge(  # noqa: PLR0911  one return a case
    tier: TierPlan, tag: Answer | str, record: Publication | None, recorded: Answer | str
) -> RegistryState:
    """Decide from the tag, the record of publication, and the recorded digest."""
    for answer in (tag, recorded):
        if isinstance(answer, Unknown):
            return RegistryState(unknown=answer.reason)
    if isinstance(tag, Present) and (record is None or tag.digest == record.digest):
        return RegistryState(tag.digest, tag.image, tag.size)
    if isinstance(tag, Present):
        holds = f"it holds {tag.digest[:19]}"
    else:
        holds = f"it holds {tag}" if isinstance(tag, str) else "it is gone"
    what = "was removed" if isinstance(tag, Absent) else f"was overwritten: {holds}"
    if record is not None and isinstance(recorded, Present):
        wrong = f"the registry's tag {tier.ref} {what}; {record.digest[:19]}, which was published, is still there"
        return RegistryState(recorded.digest, recorded.image, recorded.size, wrong=wrong)
    if isinstance(tag, Present):
        assert record is not None  # noqa: S101  the case above
        wrong = f"the registry's tag {tier.ref} {what}; {record.digest[:19]}, which was published, is gone"
        return RegistryState(tag.digest, tag.image, tag.size, wrong=wrong)
    if isinstance(tag, str):
        return RegistryState(wrong=f"the registry's tag {tier.ref} {what}", blocked=True)
    if record is not None:
        gone = (
            f"evicted: {record.digest[:19]} was published, but the registry has neither the tag nor the image any more"
        )
        return RegistryState(wrong=gone)
    return RegistryState()


def _is(answer: Answer | None, digest: str) -> bool:
    return isinstance(answer, Present) and answer.digest == digest


def _record(services: Services, tier: TierPlan) -> Publication | None:
    try:
        record = publication(services, tier)
    except StoreError as error:
        services.console.line(f"{tier.name}: the cache does not say what was published: {error}")
        return None
    return record if record is not None and record.digest else None
