"""What each object of a compile took, from one compile to the next. Pure.

    {"format": 1,
     "objects": {"<object>": [<wall s>, <peak bytes>, <seen, Unix s>, "<hash of its source>", "<hash of its flags>"]},
     "flags": {"<hash>": "<flags>"}, "last": <the last compile, see `last_compile`>}

One document is kept for each line of compiles (`CompilePlan.namespace`), of at most MAX_OBJECTS objects: those that were
not seen for longest go first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from imagetiers.ccache.call_log import Call
from imagetiers.documents import parse_object
from imagetiers.planning.last_compile import LastCompile

__all__ = ["Job", "KnownObject", "KnownObjects", "flags_hash", "learn", "read_jobs"]

MAX_OBJECTS = 20_000
MAX_FLAGS = 500
_FORMAT = 1
_PASSING = ("/CMakeScratch/", "/CMakeTmp/", "/cmTC_", "/conftest")  # objects of configure checks: no two have one name
_VALUED = frozenset({"-o", "-MF", "-MT", "-MQ"})


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
    """All objects that are known of a line of compiles, the flags by their hash, and what the last compile has missed."""

    objects: Mapping[str, KnownObject] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    last: LastCompile | None = None

    def encode(self) -> bytes:
        """Return the document; what was not seen for longest is left out where there is too much."""
        newest = sorted(self.objects.items(), key=lambda item: (-item[1].seen, item[0]))[:MAX_OBJECTS]
        used = dict.fromkeys(one.flags for _, one in newest)
        flags = {name: self.flags[name] for name in list(used)[:MAX_FLAGS] if name in self.flags}
        objects = {
            name: [round(one.seconds, 3), one.memory, int(one.seen), one.source, one.flags]
            for name, one in sorted(newest)
        }
        document: dict[str, object] = {"format": _FORMAT, "objects": objects, "flags": flags}
        if self.last is not None:
            document["last"] = self.last.document()
        return json.dumps(document, sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> KnownObjects:
        """Read a document. One of another format, or a garbled one, knows nothing: guesses do as well."""
        document = parse_object(data) or {}
        listed, flags = document.get("objects"), document.get("flags")
        if document.get("format") != _FORMAT or not isinstance(listed, dict) or not isinstance(flags, dict):
            return cls()
        objects = {name: known for name, row in listed.items() if (known := _known(row)) is not None}
        texts = {str(name): text for name, text in flags.items() if isinstance(text, str)}
        return cls(objects, texts, LastCompile.read(document.get("last")))

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


def flags_hash(flags: str) -> str:
    """Return what stands for flags in a known object."""
    return hashlib.sha256(flags.encode(errors="surrogateescape")).hexdigest()[:12]


def learn(
    before: KnownObjects, jobs: Iterable[Job], calls: Iterable[Call], now: float, last: LastCompile | None = None
) -> KnownObjects:
    """Return what is known after a compile, which was `last`.

    What starved has twice its room from now on; what has hit was seen.
    """
    objects = dict(before.objects)
    flags = dict(before.flags)
    for call in calls:
        known = objects.get(call.object)
        if known is not None:
            objects[call.object] = replace(known, seen=now)
    for job in jobs:
        if job.outcome == "failed" or any(part in job.object for part in _PASSING):
            continue
        digest = flags_hash(job.flags)
        flags[digest] = job.flags
        memory = 2 * max(job.peak, job.lease) if job.outcome == "starved" else job.peak
        objects[job.object] = KnownObject(job.seconds, memory, now, job.source_hash, digest)
    return KnownObjects(objects, flags, last)
