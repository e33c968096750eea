"""Whether what a tier is built from is signed, where pipeline.yaml asks for it: outside images, and parents in the registry."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from imagetiers.config.model import SignedParents
from imagetiers.config.references import repository_of
from imagetiers.errors import Problem
from imagetiers.operations.attest import key_argument
from imagetiers.planning.keys import UNPINNED
from imagetiers.planning.observed import Unknown
from imagetiers.planning.plan import TierPlan
from imagetiers.session import Session
from imagetiers.state.observe import observe

__all__ = ["parent_signature_problems"]


def parent_signature_problems(session: Session, tier: TierPlan) -> Iterator[Problem]:
    """Yield what a tier may not be built from, or of which nobody can tell.

    Untrusted builds, which publish nothing, ask nobody. A parent that only this machine has is not looked at: its push comes
    before its child's.
    """
    settings = session.plan.pipeline.supply_chain
    rules = settings.require_signed_parents if settings is not None and session.trust.trusted else ()
    outside = [rule for rule in rules if rule.images is not None]
    if outside:
        documents = (tier.key_document, *((tier.compile.key_document,) if tier.compile is not None else ()))
        for ref, digest in sorted({pair for document in documents for pair in document.bases.items()}):
            for rule in outside:
                if fnmatchcase(ref, rule.images or ""):
                    yield from _unsigned(session, rule, ref, "" if digest == UNPINNED else digest)
    for name in tier.made_from:
        above = [rule for rule in rules if rule.tiers is not None and fnmatchcase(name, rule.tiers)]
        published = observe(session).published(session.plan.tiers[name]) if above else None
        for rule in above if published is not None else ():
            repository = session.plan.tiers[name].repository
            yield from _unsigned(session, rule, repository, published.digest if published is not None else "")


def _unsigned(session: Session, rule: SignedParents, ref: str, digest: str) -> Iterator[Problem]:
    """Yield why an image does not meet a rule: one of the rule's keys must have signed it."""
    if not digest:
        yield Problem(rule.where, f"{ref} is not pinned, so nobody can say who has signed it", "doit lock")
        return
    settings = session.plan.pipeline.supply_chain
    keys = settings.keys if settings is not None else {}
    unknown = ""
    for name in rule.keys:
        said = session.services.notary.signed(
            f"{repository_of(ref)}@{digest}", key_argument(session.layout.root, keys[name])
        )
        if said is True:
            return
        unknown = said.reason if isinstance(said, Unknown) else unknown
    by = " or ".join(rule.keys)
    if unknown:
        yield Problem(rule.where, f"nobody can say whether {ref} ({digest[:19]}) is signed by {by}: {unknown}", _AGAIN)
    else:
        yield Problem(rule.where, f"{ref} ({digest[:19]}) is not signed by {by}", _SIGN)


_AGAIN = "nothing is built from what nobody vouches for; doit again when cosign and the registry answer"
_SIGN = (
    "take one that is signed (doit lock looks for a newer one), or have it signed: cosign sign --key KEY IMAGE@DIGEST"
)
