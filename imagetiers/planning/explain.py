"""Why a tier would be built: its key document against the nearest one that was built before, down to the root cause. Pure.

Nearest is the one with the fewest differences, the newest of several. A changed parent key, and changed wheels, are
followed to the documents that those keys are the hashes of, as far as somebody has kept them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from imagetiers.config.model import REFRESH_ARG
from imagetiers.dockerfile.parser import parse_dockerfile
from imagetiers.errors import PipelineError
from imagetiers.planning.decide import decide
from imagetiers.planning.ingredients import instruction_lines
from imagetiers.planning.keys import UNPINNED, KeyChange, diff, is_key
from imagetiers.planning.observed import ObservedState
from imagetiers.planning.plan import Plan, TierPlan

__all__ = ["Candidate", "Cause", "Detail", "Explanation", "Origin", "Sources", "explain"]

_MOST_LINES = 12


class Cause(Enum):
    """Why there is no image of a key."""

    FOUND = "up to date"
    FORCED = "forced"
    UNKNOWN = "unknown"
    EVICTED = "evicted"
    NEVER_BUILT = "never built"
    RECIPE = "recipe version raised"
    INPUTS = "inputs changed"
    BASE = "base digest moved"
    REFRESH = "refresh epoch"
    PARENT = "parent changed"
    CONTEXT = "context changed"


_ORDER = tuple(Cause)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that was built before: its key document as JSON knows it, who says so, and when it was built (Unix seconds)."""

    key: str
    document: Mapping[str, Any]
    where: str
    created: int


@dataclass(frozen=True, slots=True)
class Detail:
    """A change, the place in the repository where it is (`path:line`, as far as known), and the lines that differ."""

    change: KeyChange
    place: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """One step on the way to the root cause: a tier (or its compile step) with its own changes. `note`: what is not known."""

    what: str
    causes: tuple[Cause, ...]
    details: tuple[Detail, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a tier would be built. `origins` begins with the tier itself, then its wheels, then its parents."""

    tier: TierPlan
    causes: tuple[Cause, ...]
    summary: str
    against: Candidate | None = None
    origins: tuple[Origin, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        against = self.against
        return {
            "tier": self.tier.name,
            "key": self.tier.key,
            "ref": self.tier.ref,
            "causes": [cause.value for cause in self.causes],
            "summary": self.summary,
            "against": None
            if against is None
            else {"key": against.key, "where": against.where, "created": against.created},
            "origins": [
                {
                    "what": origin.what,
                    "causes": [cause.value for cause in origin.causes],
                    "note": origin.note,
                    "changes": [
                        {
                            "part": detail.change.part,
                            "name": detail.change.name,
                            "before": detail.change.before,
                            "after": detail.change.after,
                            "place": detail.place,
                            "lines": list(detail.lines),
                        }
                        for detail in origin.details
                    ],
                }
                for origin in self.origins
            ],
        }


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look things up: the document of a key (None: nobody has kept it), the texts of a key's files, and the path
    in the repository of one of a tier's files."""  # noqa: D205, D209

    document: Callable[[str], Mapping[str, Any] | None]
    texts: Callable[[str], Mapping[str, str]]
    path: Callable[[TierPlan, str], str]


def explain(
    plan: Plan, tier: TierPlan, seen: ObservedState, candidates: Callable[[], Iterable[Candidate]], sources: Sources
) -> Explanation:
    """Explain a tier. `candidates` and `sources` are asked only when it would be built."""
    reason = decide(plan, seen)[f"image:{tier.name}"]
    if reason is None:
        return _found(tier, seen)
    if reason.fails or reason.forgotten:
        return Explanation(tier, (Cause.UNKNOWN if reason.fails else Cause.FORCED,), str(reason))
    known = list(candidates())
    registered = seen.registered.get(tier.name)
    if registered is not None and registered.wrong:
        return Explanation(tier, (Cause.EVICTED,), registered.wrong)
    same = [candidate for candidate in known if candidate.key == tier.key]
    if same:
        gone = "is not here" if registered is None else "is neither here nor in the registry"
        summary = f"this very key was built before ({same[0].where}), but its image {gone} any more"
        return Explanation(tier, (Cause.EVICTED,), summary, same[0])
    if not known:
        where = (
            "on this machine or in the cache" if registered is None else "on this machine, in the cache or the registry"
        )
        return Explanation(tier, (Cause.NEVER_BUILT,), f"no build of this tier is known {where}")
    document = tier.key_document.content()
    nearest = min(known, key=lambda candidate: (len(diff(candidate.document, document)), -candidate.created))
    origins = tuple(_origins(plan, tier, nearest.document, nearest.key, sources))
    causes = origins[0].causes
    return Explanation(tier, causes, _summary(origins), nearest, origins)


def _found(tier: TierPlan, seen: ObservedState) -> Explanation:
    registered, published = seen.registered.get(tier.name), seen.published(tier)
    wrong = f"; {registered.wrong}" if registered is not None and registered.wrong else ""
    here = seen.image(tier) is not None or published is None
    where = "found locally" if here or published is None else f"found in registry, {published.digest[:19]}"
    return Explanation(tier, (Cause.FOUND,), where + wrong)


def _origins(
    plan: Plan, tier: TierPlan, before: Mapping[str, Any], before_key: str, sources: Sources
) -> Iterator[Origin]:
    after = tier.key_document.content()
    tiers = _changed_tiers(tier, before)
    own = [
        change
        for change in diff(before, after)
        if change.part not in {"parent", "wheels"} and not (change.part == "context" and change.name in tiers)
    ]
    if before.get("refresh") != after["refresh"]:
        own = [change for change in own if (change.part, change.name) != ("arg", REFRESH_ARG)]
    other = before.get("parent") != after["parent"]
    wheels = _wheels(tier, before, sources) if before.get("wheels") != after["wheels"] else None
    causes = {_cause(change) for change in own} | ({Cause.PARENT} if other else set())
    causes |= {Cause.CONTEXT} if tiers else set()
    causes |= set(wheels.causes) if wheels is not None else set()
    texts = sources.texts(before_key) if any(change.part == "file" for change in own) else {}
    details = tuple(_detail(tier, change, before, texts, sources) for change in own)
    yield Origin(f"image {tier.name}", tuple(sorted(causes, key=_ORDER.index)), details)
    if wheels is not None:
        yield wheels
    if other:
        yield from _parent(plan, tier, before, sources)
    for context, changed in tiers.items():
        yield from _earlier(plan, tier, f"context {context}", changed, sources)


def _changed_tiers(tier: TierPlan, before: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the contexts that are a tier's image, and were one's of another key: the tier, and the key before."""
    old = before.get("contexts") or {}
    now = tier.key_document.contexts
    return {
        context: (name, str(old[context]))
        for context, name in tier.contexts.tiers.items()
        if is_key(old.get(context)) and old[context] != now[context]
    }


def _wheels(tier: TierPlan, before: Mapping[str, Any], sources: Sources) -> Origin:
    what = f"{tier.compile.config.made if tier.compile is not None else 'wheels'} of {tier.name}"
    old = before.get("wheels")
    if old is None or tier.compile is None:
        return Origin(what, (Cause.INPUTS,), (), f"the compile step is {'new' if old is None else 'gone'}")
    found = sources.document(str(old))
    if found is None:
        note = f"the compile key changed; nobody has kept the key document of {str(old)[:12]}"
        return Origin(what, (Cause.INPUTS,), (), note)
    changes = diff(found, tier.compile.key_document.content())
    texts = sources.texts(str(old)) if any(change.part == "file" for change in changes) else {}
    details = tuple(_detail(tier, change, found, texts, sources) for change in changes)
    return Origin(what, tuple(sorted({_cause(change) for change in changes}, key=_ORDER.index)), details)


def _parent(plan: Plan, tier: TierPlan, before: Mapping[str, Any], sources: Sources) -> Iterator[Origin]:
    old = before.get("parent")
    name = tier.config.parent
    if old is None or name is None:
        told = "it had no parent before" if old is None else "it has no parent any more"
        yield Origin(f"parent of {tier.name}", (Cause.INPUTS,), (), told)
        return
    yield from _earlier(plan, tier, "parent", (name, str(old)), sources)


def _earlier(plan: Plan, tier: TierPlan, role: str, changed: tuple[str, str], sources: Sources) -> Iterator[Origin]:
    """Follow a tier that this one is made from, and whose key has `changed`, to the document of its key before."""
    name, old = changed
    found = sources.document(old)
    if found is None:
        note = f"its key changed; nobody has kept the key document of {old[:12]}"
        yield Origin(f"image {name}", (Cause.INPUTS,), (), note)
    elif found.get("tier") != name:
        yield Origin(f"{role} of {tier.name}", (Cause.INPUTS,), (), f"the {role} was {found.get('tier')} before")
    else:
        yield from _origins(plan, plan.tiers[name], found, old, sources)


def _cause(change: KeyChange) -> Cause:
    if change.part == "recipe":
        return Cause.RECIPE
    if change.part == "refresh":
        return Cause.REFRESH
    if change.part == "base" and change.before is not None and change.after is not None:
        return Cause.BASE
    return Cause.INPUTS


def _summary(origins: tuple[Origin, ...]) -> str:
    """Say the root in one line: the last origin that has changes of its own, or does not know."""
    first = ", ".join(cause.value for cause in origins[0].causes)
    roots = [origin for origin in origins if origin.details or origin.note]
    told = []
    for origin in roots:
        shown = origin.note or ", ".join(_headline(detail) for detail in origin.details[:3])
        more = f" and {len(origin.details) - 3} more" if len(origin.details) > 3 else ""  # noqa: PLR2004
        told.append((f"{origin.what}: " if origin is not origins[0] else "") + shown + more)
    return f"{first}: {'; '.join(told)}" if told else first


def _headline(detail: Detail) -> str:
    change = detail.change
    if change.part == "file":
        return f"{detail.place} {str(change).rpartition(' ')[2]}"
    return f"{detail.place} changed" if detail.place else str(change)


def _detail(
    tier: TierPlan, change: KeyChange, before: Mapping[str, Any], texts: Mapping[str, str], sources: Sources
) -> Detail:
    if change.part == "file":
        return _file(tier, change, texts, sources)
    if change.part == "stage":
        return _stage(tier, change, before)
    if change.part == "base":
        lines = tuple(f"{sign} {value}" for sign, value in (("-", change.before), ("+", change.after)) if value)
        return Detail(change, "pipeline.lock.yaml" if change.after not in {None, UNPINNED} else "pipeline.yaml", lines)
    return Detail(change)


def _file(tier: TierPlan, change: KeyChange, texts: Mapping[str, str], sources: Sources) -> Detail:
    place = sources.path(tier, change.name)
    files = tier.compile.inputs if tier.compile is not None else ()
    now = next((file for file in (*tier.inputs, *files) if file.path == change.name), None)
    if now is None or now.content is None or change.before is None or change.name not in texts:
        return Detail(change, place)
    try:
        number, lines = _lines(texts[change.name].splitlines(), now.content.decode().splitlines())
    except UnicodeDecodeError:
        return Detail(change, place)
    return Detail(change, f"{place}:{number}" if number else place, lines)


def _stage(tier: TierPlan, change: KeyChange, before: Mapping[str, Any]) -> Detail:
    """Compare a stage's instructions, and find the line of the Dockerfile where the first new one stands."""
    old = list((before.get("stages") or {}).get(change.name, ()))
    documents = (tier.key_document, *((tier.compile.key_document,) if tier.compile is not None else ()))
    new = next((list(lines) for one in documents for name, lines in one.stages if name == change.name), [])
    number, lines = _lines(old, new)
    place = tier.config.dockerfile_path
    at = _dockerfile_line(tier, change.name, new[number - 1 :] if number else [])
    return Detail(change, f"{place}:{at}" if at else place, lines)


def _dockerfile_line(tier: TierPlan, stage_name: str, wanted: list[str]) -> int:
    try:
        dockerfile = parse_dockerfile(tier.dockerfile, "Dockerfile")
    except PipelineError:
        return 0
    at = {
        instruction_lines(instruction)[0]: instruction.line
        for stage in dockerfile.stages
        if stage.label == stage_name
        for instruction in stage.instructions
    }
    return next((at[line] for line in wanted if line in at), 0)


def _lines(old: list[str], new: list[str]) -> tuple[int, tuple[str, ...]]:
    """Return where the first difference stands in the new text (from 1), and the lines that differ, the first ones."""
    first, shown = 0, []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            continue
        first = first or c + 1
        shown += [f"- {line}" for line in old[a:b]] + [f"+ {line}" for line in new[c:d]]
    if len(shown) > _MOST_LINES:
        shown = [*shown[:_MOST_LINES], f"(and {len(shown) - _MOST_LINES} lines more)"]
    return first, tuple(shown)
