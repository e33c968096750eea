"""Forecasts: gather what the cache tells of earlier builds, for `doit plan` before anything runs, and for a build's own record.

All questions are few and bounded (the newest records, one listing a tier), and a cache that does not answer costs seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from json import loads

from imagetiers.building.ccache_session import CcacheSession, namespace_chain
from imagetiers.ccache.pull import Peek, peek
from imagetiers.config.model import Trust
from imagetiers.errors import CorruptError, EngineError, NotFoundError, StoreError
from imagetiers.events import TaskForecast
from imagetiers.parallel import map_parallel
from imagetiers.planning.decide import TierDecision
from imagetiers.planning.forecast import (
    READ,
    Accuracy,
    BuildKind,
    BuildProfile,
    Sample,
    Step,
    TierForecast,
    Wheels,
    accuracy,
    compile_change,
    expected_steps,
    forecast,
    image_change,
    pulls,
    read_sample,
)
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import CompilePlan, Plan, TierPlan
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.state.aggregates import AGGREGATE, decode_aggregate
from imagetiers.state.records import Record
from imagetiers.state.wheels import object_name
from imagetiers.stores.port import Store
from imagetiers.stores.timeout import TimeoutStore

__all__ = ["Expected", "expect_compile", "expect_image", "processors", "tier_forecasts"]

_THREADS = 16
_Asked = tuple[str, str]  # a tier and a kind of record


@dataclass(frozen=True, slots=True)
class Expected:
    """What was known of a build before it began."""

    like: BuildProfile
    predicted: Mapping[str, float] | None = None

    def attach_to(self, record: Record) -> Record:
        """Return the record with it, beside what was measured."""
        like = self.like
        return replace(
            record,
            pipeline=like.pipeline,
            variant=like.variant,
            change=like.change,
            cpus=like.cpus,
            predicted=self.predicted,
        )


def expect_compile(session: Session, tier: TierPlan, warm: CcacheSession) -> Expected:
    """Say, and tell, what is expected of a compile that is about to begin. What the cache does not say is not forecast."""
    store = TimeoutStore(session.services.store)
    try:
        arches = warm.toolchain.fingerprint.arches
        found = peek(store, warm.chain, warm.directory, step=warm.step, arches=arches) if warm.cached else Peek()
    except (StoreError, OSError):
        return Expected(_like(session.plan, "", 0))
    assert tier.compile is not None  # noqa: S101  it is being compiled
    return _expect(session, tier, compile_change(tier.compile.config, good=found.good, some=found.some), store)


def expect_image(session: Session, tier: TierPlan, seen: ObservedState, *, force: bool) -> Expected:
    """Say, and tell, what is expected of an image build that is about to begin."""
    here = {name for name, other in session.plan.tiers.items() if seen.image(other) is not None}
    return _expect(session, tier, image_change(tier, here, force=force), TimeoutStore(session.services.store))


def _expect(session: Session, tier: TierPlan, change: BuildKind, store: Store) -> Expected:
    like = _like(session.plan, change.value, processors(session.services))
    asked = (tier.name, change.kind)
    try:
        told = forecast(_samples(store, session.trust, [asked])[asked], like)
    except StoreError:
        told = None
    if told is not None:
        session.services.events(TaskForecast(f"{change.kind}:{tier.name}", told.seconds, told.low, told.high))
    return Expected(like, told.document() if told is not None else None)


def _like(plan: Plan, change: str, cpus: int) -> BuildProfile:
    return BuildProfile(plan.pipeline.name, plan.pipeline.variant or "", change, cpus)


def processors(services: Services) -> int:
    """Return how many processors the engine has; 0 where it does not say."""
    try:
        return services.engine.info().cpus
    except EngineError:
        return 0


def tier_forecasts(
    session: Session, decisions: tuple[TierDecision, ...], seen: ObservedState, *, cpus: int
) -> Mapping[str, TierForecast]:
    """Say of each tier what it would take on an engine with so many processors. Raises StoreError.

    Of a plan with nothing to build the cache is asked nothing.
    """
    compiled = [d.tier for d in decisions if f"compile:{d.tier.name}" in d.runs]
    wheels = dict(map_parallel(lambda tier: (tier.name, _wheels(session, tier, seen)), compiled, _THREADS))
    steps = expected_steps(session.plan, decisions, seen, wheels)
    asked = [(name, step.change.kind) for name, some in steps.items() for step in some]
    samples = _samples(session.services.store, session.trust, asked)
    there = session.plan.pipeline.cloudbuild.cpus

    def told(name: str, step: Step) -> Step:
        known = samples[name, step.change.kind]
        like = _like(session.plan, step.change.value, cpus)
        return replace(step, here=forecast(known, like), there=forecast(known, replace(like, cpus=there)))

    def so_far(name: str) -> Mapping[str, Accuracy]:
        kinds = [step.change.kind for step in steps[name]]
        held = {kind: accuracy(samples[name, kind], _like(session.plan, "", 0)) for kind in kinds}
        return {kind: found for kind, found in held.items() if found is not None}

    return {
        d.tier.name: TierForecast(
            d.tier.name,
            tuple(told(d.tier.name, step) for step in steps[d.tier.name]),
            pulls(session.plan, d, steps[d.tier.name], seen, wheels.get(d.tier.name)),
            so_far(d.tier.name),
            unknown=d.unknown,
        )
        for d in decisions
    }


def _wheels(session: Session, tier: TierPlan, seen: ObservedState) -> Wheels:
    step = tier.compile
    assert step is not None  # noqa: S101  only such tiers run compile:
    force = f"compile:{tier.name}" in seen.forced  # then finished wheels are not fetched
    for trust in () if force else dict.fromkeys((Trust(), session.trust)):
        blob = session.services.store.stat(object_name(step.key, trust))
        if blob is not None:
            return Wheels(size=blob.size)
    version = _ccache_version(session, step) if step.config.ccache is not None else None
    if version is None:
        return Wheels()
    chain = namespace_chain(step.namespace, session.trust, version)
    directory = session.layout.ccache(chain[0])
    found = peek(session.services.store, chain, directory, step=tier.name, arches=step.arches)
    return Wheels(None, found.good, found.some, found.bytes)


def _ccache_version(session: Session, step: CompilePlan) -> str | None:
    """Return the version of ccache that the builder most likely has: a plan cannot ask an image that is not built.

    That is the one in the name of the namespace that was written last, in the cache, or else of one on this machine.
    """
    found: dict[str, float] = {}
    for name in namespace_chain(step.namespace, session.trust, ""):
        for blob in session.services.store.list(f"ccache/{name}"):
            space, _, rest = blob.name.removeprefix(f"ccache/{name}").partition("/")
            if rest == "head":
                found[space] = max(found.get(space, 0.0), blob.updated)
    if not found:
        own = namespace_chain(step.namespace, session.trust, "")[0]
        found = {path.name.removeprefix(own): 0.0 for path in session.layout.ccache(own).parent.glob(f"{own}*")}
    return max(found, key=lambda version: found[version]) if found else None


def _samples(store: Store, trust: Trust, asked: list[_Asked]) -> dict[_Asked, list[Sample]]:
    """Read the newest records of tiers' compiles or images; a damaged or an old one says nothing. Raises StoreError.

    What `cache:gc` has added up of older ones comes first: it is in the same listing.
    """

    def names(one: _Asked) -> list[str]:
        tier, kind = one
        found: list[str] = []
        added: list[str] = []
        for prefix in dict.fromkeys(("", trust.prefix)):
            newest: deque[str] = deque(maxlen=READ)
            for blob in store.list(f"{prefix}records/{tier}/{kind}/"):
                (added if blob.name.endswith(f"/{AGGREGATE}") else newest).append(blob.name)
            found += newest
        return added + sorted(found, key=lambda name: name.rpartition("/")[2])[-READ:]

    def read(name: str) -> list[Sample]:
        try:
            data, _ = store.read(name)
            if name.endswith(f"/{AGGREGATE}"):
                return decode_aggregate(data).samples()
            sample = read_sample(loads(data))
        except (NotFoundError, CorruptError, ValueError):
            return []
        return [] if sample is None else [sample]

    listed = dict(zip(asked, map_parallel(names, asked, _THREADS), strict=True))
    every = [name for some in listed.values() for name in some]
    told = dict(zip(every, map_parallel(read, every, _THREADS), strict=True))
    return {one: [sample for name in some for sample in told[name]] for one, some in listed.items()}
