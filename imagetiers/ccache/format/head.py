"""The head: the one mutable object of a namespace, small, changed only by compare-and-swap.

One line of JSON and one with the XXH3-128 of it (hex), because nothing else vouches for the head's bytes:

    {"format": 2, "parent": "<SHA-256 of the head before>",
     "state": {"sequence": 7, "written": <Unix s>, "writer": "...", "reason": "push",
               "segments": [{"name": "<sha256>-<nonce>", "size": <bytes>, "entries": <n>}, ...],
               "uses": {"<compile step>": {"good": <use>, "before": <use>, "partial": <use>}},
               "sets": {"name": "<sha256>-<nonce>", "size": <bytes>} or null},
     "history": [<state>, ...],                   oldest first; what a rollback can go back to
     "retired": {"<object>": <Unix s when housekeeping first saw that nothing refers to it>},
     "notes": {"name": "<sha256>-<nonce>", "size": <bytes>} or null}

`sets` names an immutable object that holds the `uses` where they have more than INLINE_MAX bytes (`{"format": 2, "uses":
{...}}`); those in the head are then empty. So do `notes` for `retired`: `{"format": 2, "retired": {...}}`.

A use is the working set of one run: `{"at": <Unix s>, "count": n, "bytes": n, "bits": "...", "fingerprint": {...}}`. `bits`
is base64(zstd(bitmap)), one bit for each row of the state's segments in their order, and a 1 after the last; rows beyond
that are not in the set, so that appending a segment changes no use. `good` is the last run that ended well, `before` the
last good one that used something else, `partial` the run that is going on or was killed. A state refers only to its own
segments, so a rollback is a copy.

Format 1, still read, had neither `sets` nor `notes`: with 200,000 entries it had 2.3 MB, written again by every checkpoint.
Readers of format 1 refuse format 2 and say why.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import xxhash
import zstandard

from imagetiers.ccache.format.fingerprint import Fingerprint
from imagetiers.ccache.format.index import ENTRIES_MAX
from imagetiers.ccache.format.pack import PackRef
from imagetiers.documents import no_constant
from imagetiers.errors import CorruptError, StoreError

__all__ = [
    "HEAD_GOAL",
    "HEAD_MAX",
    "HISTORY_MAX",
    "INLINE_MAX",
    "NOTES_MAX",
    "OUTCOMES",
    "RETIRED_MAX",
    "SETS_MAX",
    "Head",
    "NamespaceState",
    "SegmentRef",
    "Use",
    "decode_bits",
    "decode_head",
    "decode_notes",
    "decode_sets",
    "encode_bits",
    "encode_head",
    "encode_notes",
    "encode_sets",
    "is_object_name",
]

OUTCOMES = frozenset({"good", "before", "partial"})
"""Which runs of a compile step a state remembers; the top of this file says what they are."""

HISTORY_MAX = 16
"""States that a head keeps for rollback; housekeeping may keep fewer."""

HEAD_MAX = 16 * 1024 * 1024
"""Most bytes of a head that a reader reads: heads of format 1 held the working sets."""

INLINE_MAX = 6 * 1024
"""Most bytes of a state's working sets, and of the notes, that lie in the head itself: it saves a request each."""

HEAD_GOAL = 256 * 1024
"""Most bytes of a head that is written; the oldest states leave its history first."""

SETS_MAX = 64 * 1024 * 1024
"""Most bytes of the object that holds a state's working sets."""

NOTES_MAX = 32 * 1024 * 1024
"""Most bytes of the object that holds the notes of what is on its way out."""

RETIRED_MAX = 200_000
"""Most objects on their way out at a time; what is beyond waits for a later housekeeping."""

STATE_ENTRIES_MAX = 3_000_000
"""Most rows of all segments of a state together."""

_SEGMENT_BYTES_MAX = 512 * 1024 * 1024
_SEGMENTS_MAX = 256
_STEPS_MAX = 1_000
_SET_BITS_MAX = 1 << 30
_TIME_MAX = 1e11
_TEXT_MAX = 1_000
_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FORMAT = 2
_FOLDERS = frozenset({"packs", "index", "sets", "notes"})
_WINDOW_MAX = 8 << 20
_MEND = "doit ccache:prune makes it smaller; doit ccache:rollback --rebuild makes a new one from the index"
_DAMAGED = ("the head is cut off or garbled", "write a new one from the index: doit ccache:rollback --rebuild")
_GARBLED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, CorruptError)


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """An index segment: its object (named as packs are) and how many entries it lists."""

    object: PackRef
    entries: int


@dataclass(frozen=True, slots=True)
class Use:
    """The working set of one run of a compile step; `at` is Unix seconds, `bits` as `encode_bits` makes them."""

    at: float
    count: int
    bytes: int
    bits: str
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """What a namespace holds at one moment. `uses` is by (compile step, one of `OUTCOMES`).

    `sets` is the object that holds the uses; None when they lie in the head, or are yet to be stored.
    """

    sequence: int = 0
    written: float = 0.0
    writer: str = ""
    reason: str = ""
    segments: tuple[SegmentRef, ...] = ()
    uses: Mapping[tuple[str, str], Use] = field(default_factory=dict)
    sets: PackRef | None = None

    @property
    def entries(self) -> int:
        """How many rows its segments have together."""
        return sum(segment.entries for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Head:
    """A namespace's head: the current state, earlier ones (oldest first), and objects on their way out.

    `notes` is the object that holds `retired`; None when they lie in the head, or are yet to be stored.
    """

    state: NamespaceState = NamespaceState()
    parent: str = ""
    history: tuple[NamespaceState, ...] = ()
    retired: Mapping[str, float] = field(default_factory=dict)
    notes: PackRef | None = None

    def followed_by(self, state: NamespaceState, *, parent: str) -> Head:
        """Return the next head: `state` with the next number; this state goes into the history.

        A checkpoint that follows a checkpoint replaces it, so that a long compile does not push everything that was
        good out of the history.
        """
        passing = self.state.reason == "checkpoint" or not self.state.sequence
        history = self.history if passing else (*self.history, self.state)[-HISTORY_MAX:]
        numbered = replace(state, sequence=self.state.sequence + 1)
        return Head(numbered, parent, history, self.retired, self.notes)


def encode_head(head: Head, where: str = "") -> bytes:
    """Encode a head as JSON, in at most HEAD_GOAL bytes (the oldest states go first).

    What is written has been read again: a head that readers would refuse raises StoreError. Uses and retired objects that
    have been stored (`sets`, `notes`) are left out.
    """
    history = head.history
    while True:
        value = {
            "format": _FORMAT,
            "parent": head.parent,
            "state": _from_state(head.state),
            "history": [_from_state(state) for state in history],
            "retired": dict(head.retired) if head.notes is None else {},
            "notes": _from_ref(head.notes),
        }
        data = _signed(value)
        if len(data) <= HEAD_GOAL or not history:
            break
        history = history[1:]
    _check_readable(lambda: decode_head(data, where), where, "head")
    if len(data) > HEAD_GOAL:
        raise StoreError.of(where, f"the new head would have {len(data)} bytes, so it is not written", _MEND)
    return data


def decode_head(data: bytes, where: str = "") -> Head:
    """Read a head of format 1 or 2 and check all of it. Raises CorruptError.

    Of format 2 the working sets and notes are not read yet, only where they are.
    """
    try:
        text, checksum, end = data.rsplit(b"\n", 2) if len(data) <= HEAD_MAX else (b"", b"", b"")
        if end or xxhash.xxh3_128_hexdigest(text).encode() != checksum:
            raise CorruptError.of(where, *_DAMAGED)
        return _to_head(_parsed(text), where)
    except CorruptError:
        raise
    except _GARBLED:
        raise CorruptError.of(where, *_DAMAGED) from None


def encode_sets(uses: Mapping[tuple[str, str], Use], where: str = "") -> bytes:
    """Encode a state's working sets in at most SETS_MAX bytes: those of the longest past are left out first."""
    chosen = dict(uses)
    while True:
        value = _from_uses(chosen)
        data = json.dumps({"format": _FORMAT, "uses": value}, sort_keys=True, separators=(",", ":")).encode()
        if len(data) <= SETS_MAX and len(value) <= _STEPS_MAX:
            break
        oldest = sorted(chosen, key=lambda key: chosen[key].at)
        for key in oldest[: max(1, len(oldest) // 8)]:
            del chosen[key]
    _check_readable(lambda: decode_sets(data, where), where, "list of working sets")
    return data


def decode_sets(data: bytes, where: str = "") -> dict[tuple[str, str], Use]:
    """Read a state's working sets. Raises CorruptError."""
    try:
        value = _parsed(data) if len(data) <= SETS_MAX else {}
        if value["format"] != _FORMAT:
            raise ValueError
        return _to_uses(value["uses"])
    except _GARBLED:
        raise CorruptError.of(where, "the list of working sets is garbled") from None


def encode_notes(retired: Mapping[str, float], where: str = "") -> bytes:
    """Encode the notes of retired objects; of more than RETIRED_MAX the oldest."""
    some = dict(sorted(retired.items(), key=lambda item: (item[1], item[0]))[:RETIRED_MAX])
    data = json.dumps({"format": _FORMAT, "retired": some}, sort_keys=True, separators=(",", ":")).encode()
    _check_readable(lambda: decode_notes(data, where), where, "list of retired objects")
    return data


def decode_notes(data: bytes, where: str = "") -> dict[str, float]:
    """Read the notes of retired objects. Raises CorruptError."""
    try:
        value = _parsed(data) if len(data) <= NOTES_MAX else {}
        if value["format"] != _FORMAT:
            raise ValueError
        return _to_retired(value["retired"])
    except _GARBLED:
        raise CorruptError.of(where, "the list of retired objects is garbled") from None


def encode_bits(number: int, rows: int) -> str:
    """Encode a bitmap: bit n of `number` says whether row n is in the set."""
    bitmap = (number | 1 << rows).to_bytes((rows + 8) // 8, "little")
    return base64.b64encode(zstandard.ZstdCompressor(level=9).compress(bitmap)).decode()


def decode_bits(bits: str, rows: int) -> int:
    """Decode a bitmap for at most `rows` rows. Raises CorruptError."""
    try:
        frame = base64.b64decode(bits, validate=True)
        parameters = zstandard.get_frame_parameters(frame)
        # A size of 0 would switch the decompressor's own limit off; its window is memory, too.
        if not 0 < parameters.content_size <= (rows + 8) // 8 or parameters.window_size > _WINDOW_MAX:
            raise CorruptError.of("", "a working set does not fit its index segments")
        bitmap = zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=parameters.content_size, allow_extra_data=False
        )
    except (binascii.Error, ValueError, zstandard.ZstdError):
        raise CorruptError.of("", "a working set is garbled") from None
    number = int.from_bytes(bitmap, "little")
    if not 0 < number.bit_length() <= rows + 1:
        raise CorruptError.of("", "a working set does not fit its index segments")
    return number ^ 1 << number.bit_length() - 1


def is_object_name(name: str) -> bool:
    """Say whether this is the name of one of our objects in a namespace: `packs/<sha256>-<nonce>` and so on."""
    try:
        _object_name(name)
    except (ValueError, CorruptError):
        return False
    return True


def check_step(step: str) -> str:
    """Return the name of a compile step if it may be one. Raises ValueError."""
    if not _STEP.fullmatch(step):
        raise ValueError(f"not a compile step's name: {step[:100]!r}")
    return step


def _signed(value: dict[str, Any]) -> bytes:
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return data + b"\n" + xxhash.xxh3_128_hexdigest(data).encode() + b"\n"


def _check_readable(read: Callable[[], object], where: str, what: str) -> None:
    try:
        read()
    except CorruptError:
        raise StoreError.of(
            where, f"the new {what} would be one that no reader takes, so it is not written", _MEND
        ) from None


def _parsed(text: bytes) -> Any:
    return json.loads(text, parse_constant=no_constant)


def _from_ref(ref: PackRef | None) -> dict[str, Any] | None:
    return None if ref is None else {"name": ref.name, "size": ref.size}


def _from_use(use: Use) -> dict[str, Any]:
    value: dict[str, Any] = {"at": use.at, "count": use.count, "bytes": use.bytes, "bits": use.bits}
    if use.fingerprint is not None:
        value["fingerprint"] = use.fingerprint.as_json()
    return value


def _from_uses(uses: Mapping[tuple[str, str], Use]) -> dict[str, dict[str, Any]]:
    value: dict[str, dict[str, Any]] = {}
    for (step, outcome), use in uses.items():
        value.setdefault(step, {})[outcome] = _from_use(use)
    return value


def _from_state(state: NamespaceState) -> dict[str, Any]:
    return {
        "sequence": state.sequence,
        "written": state.written,
        "writer": state.writer,
        "reason": state.reason,
        "segments": [{"name": s.object.name, "size": s.object.size, "entries": s.entries} for s in state.segments],
        "uses": _from_uses(state.uses) if state.sets is None else {},
        "sets": _from_ref(state.sets),
    }


def _to_head(value: dict[str, Any], where: str) -> Head:
    if value["format"] not in (1, _FORMAT):
        raise CorruptError.of(where, "not a head of format version 1 or 2", "a newer imagetiers may have written it")
    if len(value["history"]) > HISTORY_MAX:
        raise ValueError
    retired = _to_retired(value["retired"])
    notes = None if value["format"] == 1 else _to_ref(value["notes"])
    history = tuple(_to_state(state, value["format"]) for state in value["history"])
    return Head(_to_state(value["state"], value["format"]), _text(value["parent"]), history, retired, notes)


def _to_ref(value: Any) -> PackRef | None:
    return None if value is None else PackRef(_text(value["name"]), _count(value["size"], SETS_MAX))


def _to_state(value: dict[str, Any], version: int) -> NamespaceState:
    if len(value["segments"]) > _SEGMENTS_MAX:
        raise ValueError
    segments = tuple(
        SegmentRef(PackRef(_text(s["name"]), _count(s["size"])), _count(s["entries"], ENTRIES_MAX))
        for s in value["segments"]
    )
    state = NamespaceState(
        _count(value["sequence"]),
        _time(value["written"]),
        _text(value["writer"]),
        _text(value["reason"]),
        segments,
        _to_uses(value["uses"]),
        None if version == 1 else _to_ref(value["sets"]),
    )
    # What a reader will need for all of it together, before it reads the first byte of it.
    too_many = state.entries > STATE_ENTRIES_MAX or len({s.object.name for s in segments}) != len(segments)
    if too_many or sum(s.object.size for s in segments) > _SEGMENT_BYTES_MAX or not fitting(state):
        raise ValueError
    return state


def fitting(state: NamespaceState) -> bool:
    """Say whether a state's working sets are few enough to be held at once."""
    return len(state.uses) * (state.entries + 1) <= _SET_BITS_MAX


def _to_uses(value: dict[str, Any]) -> dict[tuple[str, str], Use]:
    if len(value) > _STEPS_MAX:
        raise ValueError
    uses = {
        (check_step(step), outcome): _to_use(use)
        for step, outcomes in value.items()
        for outcome, use in outcomes.items()
    }
    if any(outcome not in OUTCOMES for _, outcome in uses):
        raise ValueError
    return uses


def _to_use(value: dict[str, Any]) -> Use:
    found = value.get("fingerprint")
    fingerprint = None if found is None else Fingerprint.from_json(found)
    bits = value["bits"]
    if not isinstance(bits, str):
        raise TypeError
    return Use(_time(value["at"]), _count(value["count"]), _count(value["bytes"]), bits, fingerprint)


def _to_retired(value: dict[str, Any]) -> dict[str, float]:
    retired = {_object_name(name): _time(at) for name, at in value.items()}
    if len(retired) > RETIRED_MAX:
        raise ValueError
    return retired


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if len(value) > _TEXT_MAX:
        raise ValueError
    return value


def _count(value: object, most: int = 1 << 62) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError
    return value


def _time(value: object) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > _TIME_MAX:  # type: ignore[arg-type]
        raise ValueError
    return float(value)  # type: ignore[arg-type]


def _object_name(name: str) -> str:
    folder, _, rest = name.partition("/")
    if folder not in _FOLDERS:
        raise ValueError
    PackRef(rest, 1)
    return name
