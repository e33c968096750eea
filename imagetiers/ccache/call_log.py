"""What ccache did with each object: its own log (CCACHE_LOGFILE), read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Call", "CallReader", "Outcome", "read_call_log"]

_LINE = re.compile(r"\[\S+ (\d+) *\] (.*)")
_STARTED = re.compile(r"=== CCACHE \S+ STARTED =+")


class Outcome(Enum):
    """What became of a call. OTHER: it cannot be cached, or it failed."""

    HIT = "hit"
    MISS = "miss"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a compiler through ccache. `object` is where its output goes, as an absolute path.

    `manifest` is the key of the manifest where ccache had one for this source with these flags, `result` says that one of
    its results fitted; `changed` are files that were included then and are different now, where somebody has looked.
    """

    object: str
    source: str
    outcome: Outcome
    manifest: str = ""
    result: bool = False
    changed: tuple[str, ...] = ()


@dataclass(slots=True)
class _Open:
    """A call whose lines are being read."""

    folder: str = ""
    object: str = ""
    source: str = ""
    key: str = ""
    manifest: str = ""
    result: bool = False
    results: set[str] = field(default_factory=set)

    def close(self) -> Call:
        target = self.object or self.source
        if target and not target.startswith("/"):
            target = f"{self.folder}/{target}"
        hit = self.results & {"direct_cache_hit", "preprocessed_cache_hit"}
        outcome = Outcome.HIT if hit else Outcome.MISS if "cache_miss" in self.results else Outcome.OTHER
        return Call(target, self.source, outcome, self.manifest, self.result)


class CallReader:
    """Reads a log line by line, also one that is still being written; many processes have written its lines at once."""

    def __init__(self) -> None:
        self._running: dict[str, _Open] = {}

    def feed(self, line: str) -> Iterator[Call]:
        """Take a line; yield the call that has ended by it, since its process begins another."""
        match = _LINE.match(line)
        if match is None:
            return
        process, text = match.groups()
        if _STARTED.match(text):
            yield from _closed(self._running.pop(process, None))
            self._running[process] = _Open()
        elif process in self._running:
            _take(self._running[process], text)

    def rest(self) -> Iterator[Call]:
        """Yield the other calls that have a result so far."""
        for call in self._running.values():
            yield from _closed(call)


def read_call_log(lines: Iterable[str]) -> Iterator[Call]:
    """Yield the calls of a log. One without a result is left out.

    The words are those of ccache 4.10 to 4.14; a log that says less gives calls that know less.
    """
    reader = CallReader()
    for line in lines:
        yield from reader.feed(line)
    yield from reader.rest()


def _closed(call: _Open | None) -> Iterator[Call]:
    if call is not None and call.results:
        yield call.close()


def _take(call: _Open, text: str) -> None:
    word, _, value = text.partition(": ")
    if word == "Working directory":
        call.folder = value
    elif word == "Object file":
        call.object = value
    elif word == "Source file":
        call.source = value
    elif word == "Result":
        call.results.add(value)
    elif word == "Manifest key":
        call.key = value
    elif call.key and text.startswith(f"Retrieved {call.key} from "):
        call.manifest = call.key
    elif text == "Got result key from manifest":
        call.result = True
