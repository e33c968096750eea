"""Why objects were no hits: from ccache's log and manifests, and from what was known of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from imagetiers.ccache.call_log import Call, Outcome
from imagetiers.planning.hit_rates import HOST_HALF, class_of
from imagetiers.planning.last_compile import Missed, Why
from imagetiers.planning.objects import Job, KnownObject, KnownObjects, flags_hash

__all__ = ["explain_misses"]

_WORDS = 6


def explain_misses(
    calls: Iterable[Call], jobs: Iterable[Job], before: KnownObjects, toolchain: str
) -> tuple[Missed, ...]:
    """Return the misses. `before` is what was known before the compile, `toolchain` what of it differs from then, if anything.

    ccache hashes a source, its flags and the compiler to find its manifest, and the manifest tells the headers: where there
    was one, it was a header, and otherwise one of the others.
    """
    ran = {job.object: job for job in jobs}
    found = [_explain(call, ran.get(call.object), before, toolchain) for call in calls if call.outcome is Outcome.MISS]
    units: dict[PurePosixPath, Missed] = {}
    for one in found:
        if one.why in {Why.HEADER, Why.SOURCE} and class_of(one.object, one.source) != HOST_HALF:
            units.setdefault(PurePosixPath(one.object).parent, one)
    return tuple(_as_its_units(one, units) for one in found)


def _as_its_units(one: Missed, units: Mapping[PurePosixPath, Missed]) -> Missed:
    """The host half is hashed with what the device code made: it has no manifest when that changed."""
    unit = units.get(PurePosixPath(one.object).parent)
    if unit is None or one.why is not Why.EVICTED or class_of(one.object, one.source) != HOST_HALF:
        return one
    return replace(one, why=unit.why, detail=unit.detail)


def _explain(call: Call, job: Job | None, before: KnownObjects, toolchain: str) -> Missed:
    why, detail = _why(call, job, before, toolchain)
    return Missed(call.object, call.source, why, detail, job.seconds if job is not None else 0.0)


def _why(call: Call, job: Job | None, before: KnownObjects, toolchain: str) -> tuple[Why, str]:
    known = before.objects.get(call.object)
    why, detail = Why.EVICTED, ""
    if known is None:
        why = Why.NEVER
    elif call.manifest:
        if not call.result:
            why, detail = Why.HEADER, _few(call.changed)
    elif toolchain:
        why, detail = Why.TOOLCHAIN, toolchain
    elif job is not None and job.source_hash != known.source:
        why = Why.SOURCE
    elif job is not None and flags_hash(job.flags) != known.flags:
        why, detail = Why.FLAGS, _difference(before, known, job)
    return why, detail


def _difference(before: KnownObjects, known: KnownObject, job: Job) -> str:
    """Say which words were added (+) and which are gone (-)."""
    old, new = Counter(before.flags.get(known.flags, "").split()), Counter(job.flags.split())
    if not old:
        return ""
    words = [*(f"+ {word}" for word in new - old), *(f"- {word}" for word in old - new)]
    return _few(words) or "in another order"


def _few(words: Iterable[str]) -> str:
    listed = list(words)
    more = f" and {len(listed) - _WORDS} more" if len(listed) > _WORDS else ""
    return ", ".join(listed[:_WORDS]) + more
