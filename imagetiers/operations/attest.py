"""What a push publishes beside an image: how it was made and what it is made of, attached and attested; then its signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from imagetiers import __version__
from imagetiers.config.model import SupplyChain
from imagetiers.errors import Problem, RegistryError
from imagetiers.operations.pull import fetch
from imagetiers.planning.attachments import KINDS, AttachmentKind, canonical, predicate_of, statement
from imagetiers.planning.observed import Present, Unknown
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.planning.provenance import provenance
from imagetiers.planning.sboms import settle_cyclonedx, settle_spdx
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.state.observe import observe
from imagetiers.state.sboms import sbom_of

__all__ = ["attest_image", "key_argument", "signing_problems"]

_SETUP = "cosign generate-key-pair makes a pair: IMAGETIERS_COSIGN_KEY names the private file, COSIGN_PASSWORD is its password"


def signing_problems(session: Session, task: str) -> tuple[Problem, ...]:
    """Return why a push could not sign, as far as it can be known before anything is compiled for it."""
    settings = session.plan.pipeline.supply_chain
    if settings is None or settings.sign is None:
        return ()
    reason = session.services.notary.cannot_sign(key_argument(session.layout.root, settings.keys[settings.sign]))
    return (Problem(task, f"pipeline.yaml has images signed, but {reason}", _SETUP),) if reason else ()


def key_argument(root: Path, key: str) -> str:
    """Return a public key of pipeline.yaml as cosign takes it: a path, or a KMS's address as it is."""
    return key if "://" in key else str(root / key)


def attest_image(session: Session, tier: TierPlan, digest: str) -> None:
    """Attach to a published image what pipeline.yaml asks for, attest it and sign the image; nothing twice.

    The signature is written last, so that one that is there says that all is there. Raises RegistryError, EngineError.
    """
    settings = session.plan.pipeline.supply_chain
    if settings is None:
        return
    if not _done(session, tier, digest, settings):
        _attest(session, tier, digest, settings)
    for repository in dict.fromkeys(tag.rpartition(":")[0] for tag in tier.tags):
        if repository != tier.repository:
            _copy(session.services, f"{tier.repository}@{digest}", repository)


def _attest(session: Session, tier: TierPlan, digest: str, settings: SupplyChain) -> None:
    task, ref = f"push:{tier.name}", f"{tier.repository}@{digest}"
    documents = dict(_documents(session, tier, digest, settings))
    for kind, content in documents.items():
        session.services.registry.attach(ref, kind.media_type, content, _annotations(kind))
    if documents:
        attached = ", ".join(kind.name for kind in documents)
        session.services.console.line(f"{task}: attached to {digest[:19]}: {attached}")
    if settings.sign is None:
        return
    for kind, content in documents.items():
        session.services.notary.attest(ref, kind.predicate_type, canonical(predicate_of(kind, content) or {}))
    session.services.notary.sign(ref)
    if not _done(session, tier, digest, settings):
        what = f"was signed, but not with the private half of supply_chain's key '{settings.sign}'"
        raise RegistryError(Problem(task, what, "IMAGETIERS_COSIGN_KEY, or keys in pipeline.yaml"))
    session.services.console.line(f"{task}: signed by {settings.sign}")


def _done(session: Session, tier: TierPlan, digest: str, settings: SupplyChain) -> bool:
    """Say whether all of it is there already. Raises RegistryError where nobody can tell."""
    task, ref = f"push:{tier.name}", f"{tier.repository}@{digest}"
    there = session.services.registry.referrers(ref)
    if isinstance(there, Unknown):
        raise RegistryError(Problem(task, f"the registry does not say what is attached: {there.reason}", "doit again"))
    if not {KINDS[name].media_type for name in settings.attach} <= {each.kind for each in there}:
        return False
    if settings.sign is None:
        return True
    key = key_argument(session.layout.root, settings.keys[settings.sign])
    signed = session.services.notary.signed(ref, key)
    if isinstance(signed, Unknown):
        raise RegistryError(Problem(task, f"nobody can say whether it is signed: {signed.reason}", _SETUP))
    return signed


def _documents(
    session: Session, tier: TierPlan, digest: str, settings: SupplyChain
) -> Iterator[tuple[AttachmentKind, bytes]]:
    """Yield the documents of the image in the engine, which is pulled where it is not there. Raises RegistryError."""
    task = f"push:{tier.name}"
    image = observe(session).image(tier) or fetch(session, tier, digest)
    cyclonedx: bytes | None = None
    for name in settings.attach:
        kind = KINDS[name]
        if name == "provenance":
            parent = _parent_digest(session.plan, tier, digest, session.services)
            made = provenance(session.plan, tier, created=image.created, parent=parent, version=__version__)
            yield kind, canonical(statement(kind, tier.repository, digest, made))
            continue
        if cyclonedx is None:
            found = sbom_of(session, image.id)
            if isinstance(found, Unknown):
                raise RegistryError(Problem(task, f"nobody can say what the image is made of: {found.reason}", _ATTACH))
            cyclonedx = settle_cyclonedx(found, tier.repository, digest, image.created)
        made_of = cyclonedx
        if cyclonedx is not None and name == "spdx":
            given = session.services.scanner.spdx(cyclonedx)
            made_of = settle_spdx(given, tier.repository, digest, image.created) if isinstance(given, bytes) else None
        if made_of is None:
            raise RegistryError(Problem(task, f"the scanner made no {name} document of the image", _ATTACH))
        yield kind, made_of


_ATTACH = "install trivy, or leave it out of supply_chain.attach in pipeline.yaml"


def _annotations(kind: AttachmentKind) -> Mapping[str, str]:
    return {"in-toto.io/predicate-type": kind.predicate_type} if kind.is_statement else {}


def _parent_digest(plan: Plan, tier: TierPlan, digest: str, services: Services) -> str | None:
    """Return the digest of the published image of the parent that this one was built from: whose layers it begins with."""
    if tier.config.parent is None:
        return None
    above = plan.tiers[tier.config.parent]
    own = f"{tier.repository}@{digest}"
    answers = services.registry.look_up([above.ref, own])
    parent, child = answers[above.ref], answers[own]
    if not isinstance(parent, Present) or not isinstance(child, Present):
        return None
    return parent.digest if parent.layers and child.layers[: len(parent.layers)] == parent.layers else None


def _copy(services: Services, ref: str, repository: str) -> None:
    """Let another repository have `repository@digest`, and all that stands beside it; what is there already stays."""
    source, _, digest = ref.partition("@")
    services.registry.set_tag(f"{repository}@{digest}", digest, source)
    kinds = {kind.media_type: kind for kind in KINDS.values()}
    there = services.registry.referrers(ref)
    for each in there if isinstance(there, tuple) else ():
        if each.kind in kinds:
            content = services.registry.attached(f"{source}@{each.digest}")
            services.registry.attach(f"{repository}@{digest}", each.kind, content, _annotations(kinds[each.kind]))
    tags = [f"{digest.replace(':', '-')}.{ending}" for ending in ("att", "sig")]
    answers = services.registry.look_up(f"{source}:{tag}" for tag in tags)
    for tag in tags:
        answer = answers[f"{source}:{tag}"]
        if isinstance(answer, Present):
            services.registry.set_tag(f"{repository}:{tag}", answer.digest, source)
    unknown = [answer.reason for answer in (there, *answers.values()) if isinstance(answer, Unknown)]
    RegistryError.raise_if(Problem(repository, reason, "doit again") for reason in unknown)
