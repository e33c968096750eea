"""What each object of a compile took, from one compile to the next, and what hits have saved by that. Pure.

    {"format": 1,
     "objects": {"<object>": [<wall s>, <peak bytes>, <seen, Unix s>, "<hash of its source>", "<hash of its flags>"]},
     "flags": {"<hash>": "<flags>"}}

One document is kept for each line of compiles (`CompilePlan.namespace`), of at most MAX_OBJECTS objects: those that were
not seen for longest go first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from imagetiers.ccache.call_log import Call, Outcome
from imagetiers.documents import parse_object

__all__ = [
    "ClassHits",
    "HitRates",
    "Job",
    "KnownObject",
    "KnownObjects",
    "class_of",
    "hit_rates",
    "learn",
    "read_jobs",
]

MAX_OBJECTS = 20_000
MAX_FLAGS = 500
_FORMAT = 1
_PASSING = ("/CMakeScratch/", "/CMakeTmp/", "/cmTC_", "/conftest")  # objects of configure checks: no two have one name
_ENOUGH = 0.9  # of the hits must have known seconds before what they have saved is a rate
_VALUED = frozenset({"-o", "-MF", "-MT", "-MQ"})
OTHER = "links and other"


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a compiler, as job.c has written it down: wall seconds, peak and lease in bytes.

    `outcome` is done, failed, or starved: the kernel has killed it for want of memory. `source_hash` is of the source's bytes.
    """

    outcome: str
    seconds: float
    peak: int
    lease: int
    source_hash: str
    object: str
    source: str
    words: tuple[str, ...]

    @property
    def flags(self) -> str:
        """What it was told besides its source, its object and its dependency file."""
        kept: list[str] = []
        words = iter(self.words)
        for word in words:
            if word in _VALUED:
                next(words, None)
            elif word != self.source:
                kept.append(word)
        return " ".join(kept)


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An object that was compiled before: wall seconds, bytes that it needs, when it was last seen, hashes."""

    seconds: float
    memory: int
    seen: float
    source: str = ""
    flags: str = ""


@dataclass(frozen=True, slots=True)
class KnownObjects:
    """All objects that are known of a line of compiles, and the flags by their hash."""

    objects: Mapping[str, KnownObject] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the document; what was not seen for longest is left out where there is too much."""
        newest = sorted(self.objects.items(), key=lambda item: (-item[1].seen, item[0]))[:MAX_OBJECTS]
        used = dict.fromkeys(one.flags for _, one in newest)
        flags = {name: self.flags[name] for name in list(used)[:MAX_FLAGS] if name in self.flags}
        objects = {
            name: [round(one.seconds, 3), one.memory, int(one.seen), one.source, one.flags]
            for name, one in sorted(newest)
        }
        return json.dumps({"format": _FORMAT, "objects": objects, "flags": flags}, sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> KnownObjects:
        """Read a document. One of another format, or a garbled one, knows nothing: guesses do as well."""
        document = parse_object(data) or {}
        listed, flags = document.get("objects"), document.get("flags")
        if document.get("format") != _FORMAT or not isinstance(listed, dict) or not isinstance(flags, dict):
            return cls()
        objects = {name: known for name, row in listed.items() if (known := _known(row)) is not None}
        return cls(objects, {str(name): text for name, text in flags.items() if isinstance(text, str)})

    def table(self) -> bytes:
        """Return what job.c looks objects up in. An eighth more than the peak is leased: no two runs are quite alike."""
        rows = [
            f"{name}\t{one.seconds:.3f}\t{one.memory + one.memory // 8}"
            for name, one in self.objects.items()
            if not {"\n", "\t"} & set(name)
        ]
        return "\n".join(["", *rows, ""]).encode()

    def mean_memory(self) -> int:
        """Return the bytes that an object needs on average, weighted by its seconds: that is what runs at any moment."""
        seconds = sum(one.seconds for one in self.objects.values())
        return math.ceil(sum(one.memory * one.seconds for one in self.objects.values()) / seconds) if seconds else 0


def _known(row: object) -> KnownObject | None:
    match row:
        case [int() | float() as seconds, int() as memory, int() | float() as seen, str() as source, str() as flags]:
            good = math.isfinite(seconds) and seconds >= 0 and memory >= 0 and math.isfinite(seen)
            return KnownObject(float(seconds), memory, float(seen), source, flags) if good else None
        case _:
            return None


def read_jobs(lines: Iterable[str]) -> Iterator[Job]:
    """Read what job.c has written. A line that is not whole (the disk was full) is left out."""
    for line in lines:
        fields = line.rstrip("\n").split("\t")
        if len(fields) != 8:  # noqa: PLR2004  see job.c
            continue
        outcome, seconds, peak, lease, digest, target, source, words = fields
        try:
            yield Job(
                outcome, float(seconds), int(peak), int(lease), digest, target, source, tuple(words.split("\x1f"))
            )
        except ValueError:
            continue


def learn(before: KnownObjects, jobs: Iterable[Job], calls: Iterable[Call], now: float) -> KnownObjects:
    """Return what is known after a compile. What starved has twice its room from now on; what has hit was seen."""
    objects = dict(before.objects)
    flags = dict(before.flags)
    for call in calls:
        known = objects.get(call.object)
        if known is not None:
            objects[call.object] = KnownObject(known.seconds, known.memory, now, known.source, known.flags)
    for job in jobs:
        if job.outcome == "failed" or any(part in job.object for part in _PASSING):
            continue
        digest = hashlib.sha256(job.flags.encode()).hexdigest()[:12]
        flags[digest] = job.flags
        memory = 2 * max(job.peak, job.lease) if job.outcome == "starved" else job.peak
        objects[job.object] = KnownObject(job.seconds, memory, now, job.source_hash, digest)
    return KnownObjects(objects, flags)


# ---- hit rates


@dataclass(frozen=True, slots=True)
class ClassHits:
    """Calls and wall seconds of one class of objects. `unknown` hits have saved seconds that nobody has measured.

    `saved` are seconds that the hits' objects took when they were compiled, `compiled` those that this compile has spent.
    """

    name: str
    hits: int = 0
    misses: int = 0
    unknown: int = 0
    saved: float = 0.0
    compiled: float = 0.0

    @property
    def rate(self) -> float | None:
        """The saved seconds as a fraction of all; None where too little is known of what the hits have saved."""
        total = self.saved + self.compiled
        if not total or self.hits - self.unknown < _ENOUGH * self.hits:
            return None
        return self.saved / total

    def __str__(self) -> str:
        calls = f"{self.hits} of {self.hits + self.misses} calls were hits"
        if self.rate is None:
            return f"{calls}, {_seconds(self.compiled)} s compiled"
        return f"{calls}, {_seconds(self.saved)} of {_seconds(self.saved + self.compiled)} s saved ({100 * self.rate:.1f} %)"


@dataclass(frozen=True, slots=True)
class HitRates:
    """A compile's hits by class; `other` is what can be no hit: links, configure checks, what has failed."""

    classes: tuple[ClassHits, ...] = ()
    other: float = 0.0

    @property
    def total(self) -> ClassHits:
        """All classes together."""
        return ClassHits(
            "all",
            sum(one.hits for one in self.classes),
            sum(one.misses for one in self.classes),
            sum(one.unknown for one in self.classes),
            sum(one.saved for one in self.classes),
            sum(one.compiled for one in self.classes),
        )

    def __str__(self) -> str:
        total = self.total
        if total.rate is None:
            return ""
        both = _seconds(total.saved + total.compiled)
        return f"{_seconds(total.saved)} of {both} s of compiling saved ({100 * total.rate:.1f} %)"

    def by_class(self) -> tuple[str, ...]:
        """Return a line for each class, where there is more than one."""
        lines = [f"{one.name}: {one}" for one in self.classes]
        if self.other >= 1:
            lines.append(f"{OTHER}: {_seconds(self.other)} s, which no cache saves")
        return tuple(lines) if len(lines) > 1 else ()


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"  # noqa: PLR2004


def class_of(target: str, source: str) -> str:
    """Return what kind of code an object is. nvcc-per-arch has a folder of units for each CUDA object: see there."""
    path = PurePosixPath(target)
    if path.parent.name.endswith(".units"):
        return "host half of CUDA" if path.stem == "host" else f"device code {path.stem}"
    return "CUDA" if source.endswith(".cu") else "C and C++"


def hit_rates(calls: Iterable[Call], jobs: Iterable[Job], before: KnownObjects) -> HitRates:
    """Count hits in calls and in seconds: what a hit has saved is what its object took when it was last compiled."""
    spent: dict[str, float] = {}
    for job in jobs:
        spent[job.object] = spent.get(job.object, 0.0) + job.seconds
    found: dict[str, ClassHits] = {}
    for call in calls:
        if call.outcome is Outcome.OTHER:
            continue
        name = class_of(call.object, call.source)
        one = found.get(name, ClassHits(name))
        if call.outcome is Outcome.HIT:
            known = before.objects.get(call.object)
            saved = one.saved + (known.seconds if known is not None else 0.0)
            unknown = one.unknown + (known is None)
            found[name] = ClassHits(name, one.hits + 1, one.misses, unknown, saved, one.compiled)
        else:
            compiled = one.compiled + spent.pop(call.object, 0.0)
            found[name] = ClassHits(name, one.hits, one.misses + 1, one.unknown, one.saved, compiled)
    return HitRates(tuple(found[name] for name in sorted(found)), sum(spent.values()))
