"""What there is of each tier, where, and what a doit would take now: one value a tier, in the order of the graph. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from imagetiers.config.model import Waiver
from imagetiers.planning.decide import Decisions, TierDecision, TierState
from imagetiers.planning.forecast import Sum, TierForecast
from imagetiers.planning.observed import ImageInfo, ObservedState
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.planning.vulnerabilities import Judged

__all__ = ["Presence", "ScanState", "TierStatus", "tier_statuses"]


class Presence(Enum):
    """Where the image of a tier's key is. STALE: there is one of another key here. UNKNOWN is never taken for absent."""

    BOTH = "both"
    LOCAL = "local"
    REGISTRY = "registry"
    WRONG = "wrong"
    STALE = "stale"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ScanState:
    """The last scan of a tier's image: when (Unix seconds), with what, and how what it found stands with today's policy."""

    at: float
    scanner: str
    database: str
    judged: Judged


@dataclass(frozen=True, slots=True)
class TierStatus:
    """What is known of a tier. `depth` is how many tiers it stands upon, `last` whether it is its parent's last child.

    `lines` says of each ancestor but the first whether that is followed by another child: a tree is drawn with it.
    `why` tells what is not as it should be; `before` is the newest image of this tier and variant that has another key.
    `outlook` is what a doit would take for the tier, None where the cache did not say. `waiver` is the one of its
    vulnerabilities that runs out first, also where that was days ago. `signed` says whether its published image is, None
    where nobody signs it or can tell.
    """

    tier: TierPlan
    lines: tuple[bool, ...]
    depth: int
    last: bool
    presence: Presence
    why: tuple[str, ...]
    runs: tuple[str, ...]
    image: ImageInfo | None
    before: ImageInfo | None
    parent: ImageInfo | None
    digest: str
    verified: bool
    outlook: Sum | None
    waiver: Waiver | None
    signed: bool | None

    @property
    def change(self) -> int | None:
        """Bytes that the image has more than the one before."""
        return self.image.size - self.before.size if self.image is not None and self.before is not None else None

    @property
    def over_parent(self) -> int | None:
        """Bytes that the image has more than its parent's."""
        return self.image.size - self.parent.size if self.image is not None and self.parent is not None else None


def tier_statuses(
    plan: Plan,
    seen: ObservedState,
    decisions: Decisions,
    tiers: tuple[TierDecision, ...],
    outlook: Mapping[str, TierForecast] | None,
) -> tuple[TierStatus, ...]:
    """Return the status of each tier; `decisions` and `tiers` were made of `plan` and `seen`."""
    children: dict[str | None, list[TierDecision]] = {}
    for decision in tiers:
        children.setdefault(decision.tier.config.parent, []).append(decision)
    newest = _newest(plan, seen)

    def below(parent: str | None, lines: tuple[bool, ...], depth: int) -> Iterator[TierStatus]:
        level = children.get(parent, [])
        for decision in level:
            last = decision is level[-1]
            yield _status(plan, seen, decisions, decision, newest, outlook, (lines, depth, last))
            yield from below(decision.tier.name, (*lines, not last) if depth else (), depth + 1)

    return tuple(below(None, (), 0))


def _waiver(plan: Plan, tier: TierPlan) -> Waiver | None:
    own = [each for each in plan.pipeline.waivers if each.vulnerability and each.is_for(tier.name)]
    return min(own, key=lambda each: each.until, default=None)


def _newest(plan: Plan, seen: ObservedState) -> dict[str, ImageInfo]:
    """Return the newest image of another key by tier, of this pipeline and variant."""
    found: dict[str, ImageInfo] = {}
    for image in seen.images.values():
        tier = plan.tiers.get(image.tier)
        own = (image.pipeline, image.variant) == (plan.pipeline.name, plan.pipeline.variant or "")
        if tier is None or not own or image.key == tier.key or not image.usable(seen.trust):
            continue
        if image.tier not in found or found[image.tier].created < image.created:
            found[image.tier] = image
    return found


def _status(  # noqa: PLR0917  all of what a tier's line is made of
    plan: Plan,
    seen: ObservedState,
    decisions: Decisions,
    decision: TierDecision,
    newest: Mapping[str, ImageInfo],
    outlook: Mapping[str, TierForecast] | None,
    place: tuple[tuple[bool, ...], int, bool],
) -> TierStatus:
    tier = decision.tier
    image, published, registered = seen.image(tier), seen.published(tier), seen.registered.get(tier.name)
    before = newest.get(tier.name)
    wrong = registered.wrong if registered is not None else ""
    unknown = registered.unknown if registered is not None else ""
    if tier.config.output is not None:
        presence = Presence.ABSENT if seen.made.get(tier.name) else Presence.LOCAL
    elif wrong:
        presence = Presence.WRONG
    elif image is not None:
        presence = Presence.LOCAL if published is None else Presence.BOTH
    elif published is not None:
        presence = Presence.REGISTRY
    elif decision.state is TierState.UNKNOWN:
        presence = Presence.UNKNOWN
    else:
        presence = Presence.STALE if before is not None else Presence.ABSENT
    reasons = [reason for verb in ("image", "verify") if (reason := decisions[f"{verb}:{tier.name}"]) is not None]
    why = dict.fromkeys(
        line for line in (wrong, unknown, *(line for reason in reasons for line in reason.lines)) if line
    )
    lines, depth, last = place
    return TierStatus(
        tier,
        lines,
        depth,
        last,
        presence,
        tuple(why),
        decision.runs,
        image,
        before,
        seen.image(plan.tiers[tier.config.parent]) if tier.config.parent is not None else None,
        registered.digest if registered is not None else "",
        seen.verified(tier),
        outlook[tier.name].here if outlook is not None else None,
        _waiver(plan, tier),
        registered.signed if registered is not None else None,
    )
