"""What pinned images and git refs are by now: looked up at most once an hour, and remembered on this machine with the time.

The memory is safe to delete, and taken only from a file that nobody but this user could have written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from imagetiers.config.layout import Layout
from imagetiers.config.model import GitRef
from imagetiers.parallel import map_parallel
from imagetiers.planning.observed import Present, Unknown
from imagetiers.planning.pins import PinState
from imagetiers.planning.plan import TierPlan
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.state.sealed import BROKEN, seal, unseal

__all__ = ["pin_states"]

_MAGIC = b"imagetiers pins 1\n"
_HOLDS = 3600.0
_UNKNOWN_HOLDS = 300.0  # who was offline may soon not be
_MOST = 10_000
_THREADS = 8

_Answer = tuple[str | None, float, str]  # what it is (None: unknown, '': gone), when that was asked, why it is unknown


def pin_states(session: Session, *, ask: bool) -> Mapping[str, tuple[PinState, ...]]:
    """Return the pins of each tier of this variant that has any. What is not remembered is looked up with `ask` alone."""
    pipeline, now = session.plan.pipeline, session.services.now()
    images = {name: _images(tier, pipeline.pins) for name, tier in session.plan.tiers.items()}
    sources = {name: _sources(tier, pipeline.commits) for name, tier in session.plan.tiers.items()}
    wanted = {ref for refs in images.values() for ref in refs} | {
        source.name for refs in sources.values() for source in refs
    }
    known = {ref: answer for ref, answer in _recall(session.layout).items() if _holds(answer, now)}
    if ask and wanted - known.keys():
        asked_images = {ref for refs in images.values() for ref in refs if ref not in known}
        asked_sources = {source for refs in sources.values() for source in refs if source.name not in known}
        known |= dict(_ask(session.services, sorted(asked_images), asked_sources, now))
        _remember(session.layout, known)

    def states(name: str) -> Iterator[PinState]:
        pins = {ref: pipeline.pins[ref] for ref in images[name]}
        pins |= {source.name: pipeline.commits[source.name] for source in sources[name]}
        for ref, pinned in pins.items():
            if ref in known:
                yield PinState(ref, pinned, *known[ref])

    return {name: found for name in session.plan.tiers if (found := tuple(states(name)))}


def _images(tier: TierPlan, pins: Mapping[str, str]) -> list[str]:
    return [ref for ref in tier.config.bases.values() if "@" not in ref and ref in pins]


def _sources(tier: TierPlan, commits: Mapping[str, str]) -> list[GitRef]:
    return [source for source in tier.config.sources.values() if not source.fixed and source.name in commits]


def _ask(services: Services, images: list[str], sources: Iterable[GitRef], now: float) -> Iterator[tuple[str, _Answer]]:
    """Look up images in one batch, and the refs of each git repository in one."""
    for ref, answer in services.registry.look_up(images).items() if images else ():
        known = answer.digest if isinstance(answer, Present) else ""
        yield ref, (None, now, answer.reason) if isinstance(answer, Unknown) else (known, now, "")
    ordered = sorted(sources, key=lambda source: (source.git, source.ref))
    repositories = [(url, list(some)) for url, some in groupby(ordered, key=lambda source: source.git)]
    answers = map_parallel(
        lambda one: services.git.look_up(one[0], [source.ref for source in one[1]]), repositories, _THREADS
    )
    for (url, _), found in zip(repositories, answers, strict=True):
        for name, commit in found.items():
            reason = commit.reason if isinstance(commit, Unknown) else ""
            yield GitRef(url, name).name, (None if reason else commit if isinstance(commit, str) else "", now, reason)


def _holds(answer: _Answer, now: float) -> bool:
    return 0 <= now - answer[1] < (_HOLDS if answer[0] is not None else _UNKNOWN_HOLDS)


def _recall(layout: Layout) -> dict[str, _Answer]:
    """Return what was remembered, by reference; what cannot be read is not there."""
    try:
        entries = json.loads(next(unseal(layout.state / "pins", _MAGIC, 1)))
        return {ref: (now, float(at), unknown) for ref, (now, at, unknown) in entries.items()}
    except (*BROKEN, StopIteration):
        return {}


def _remember(layout: Layout, known: Mapping[str, _Answer]) -> None:
    newest = sorted(known.items(), key=lambda one: one[1][1])[-_MOST:]
    seal(layout.state / "pins", _MAGIC, (json.dumps(dict(newest)).encode(),))
