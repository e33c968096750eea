"""The head of format version 1: its reader and writer as they were, kept to show what each makes of the other's heads.

Nothing here is changed any more. Bitmaps were made as they still are, but for a list of truth values.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import xxhash
import zstandard

from imagetiers.ccache.format.fingerprint import Fingerprint
from imagetiers.ccache.format.index import ENTRIES_MAX
from imagetiers.ccache.format.pack import PackRef
from imagetiers.errors import CorruptError

__all__ = [
    "HISTORY_MAX",
    "OUTCOMES",
    "Head",
    "SegmentRef",
    "State",
    "Use",
    "decode_bits",
    "decode_head",
    "encode_bits",
    "encode_head",
]

OUTCOMES = frozenset({"good", "before", "partial"})
"""Which runs of a compile step a state remembers; the top of this file says what they are."""

HISTORY_MAX = 16
"""States that a head keeps for rollback; housekeeping may keep fewer."""

_HEAD_MAX = 16 * 1024 * 1024
_SEGMENTS_MAX = 256
_RETIRED_MAX = 1_000_000
_STEPS_MAX = 1_000
_BITS_MAX = 4 * ENTRIES_MAX // 8
_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FORMAT = 1
_DAMAGED = ("the head is cut off or garbled", "write a new one from the index: doit ccache:rollback --rebuild")


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
class State:
    """What a namespace holds at one moment. `uses` is by (compile step, one of `OUTCOMES`)."""

    sequence: int = 0
    written: float = 0.0
    writer: str = ""
    reason: str = ""
    segments: tuple[SegmentRef, ...] = ()
    uses: Mapping[tuple[str, str], Use] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """A namespace's head: the current state, earlier ones (oldest first), and objects on their way out."""

    state: State = State()
    parent: str = ""
    history: tuple[State, ...] = ()
    retired: Mapping[str, float] = field(default_factory=dict)

    def followed_by(self, state: State, *, parent: str, retired: Mapping[str, float] | None = None) -> Head:
        """Return the next head: `state` with the next number; this state goes into the history.

        A checkpoint that follows a checkpoint replaces it, so that a long compile does not push everything that was
        good out of the history.
        """
        passing = self.state.reason == "checkpoint" or not self.state.sequence
        history = self.history if passing else (*self.history, self.state)[-HISTORY_MAX:]
        numbered = replace(state, sequence=self.state.sequence + 1)
        return Head(numbered, parent, history, self.retired if retired is None else retired)


def encode_head(head: Head) -> bytes:
    """Encode a head as JSON."""
    value = {
        "format": _FORMAT,
        "parent": head.parent,
        "state": _from_state(head.state),
        "history": [_from_state(state) for state in head.history],
        "retired": dict(head.retired),
    }
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return data + b"\n" + xxhash.xxh3_128_hexdigest(data).encode() + b"\n"


def decode_head(data: bytes, where: str = "") -> Head:
    """Read a head and check all of it. Raises CorruptError."""
    try:
        text, checksum, end = data.rsplit(b"\n", 2) if len(data) <= _HEAD_MAX else (b"", b"", b"")
        if end or xxhash.xxh3_128_hexdigest(text).encode() != checksum:
            raise CorruptError.of(where, *_DAMAGED)
        return _to_head(json.loads(text), where)
    except CorruptError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise CorruptError.of(where, *_DAMAGED) from None


def encode_bits(members: Sequence[bool]) -> str:
    """Encode a bitmap with one bit for each row."""
    number = int("1" + "".join("1" if member else "0" for member in reversed(members)), 2) if members else 1
    bitmap = number.to_bytes((len(members) + 8) // 8, "little")
    return base64.b64encode(zstandard.ZstdCompressor(level=9).compress(bitmap)).decode()


def decode_bits(bits: str, rows: int) -> list[bool]:
    """Decode a bitmap for exactly `rows` rows. Raises CorruptError."""
    try:
        frame = base64.b64decode(bits, validate=True)
        size = zstandard.get_frame_parameters(frame).content_size
        # A size of 0 means "unknown" to the decompressor, which max_output_size=1 then refuses.
        most = min(max(1, size), _BITS_MAX)
        bitmap = zstandard.ZstdDecompressor().decompress(frame, max_output_size=most, allow_extra_data=False)
    except (binascii.Error, ValueError, zstandard.ZstdError):
        raise CorruptError.of("", "a working set is garbled") from None
    digits = f"{int.from_bytes(bitmap, 'little'):b}"
    if len(digits) != rows + 1:
        raise CorruptError.of("", "a working set does not fit its index segments")
    return [digit == "1" for digit in digits[:0:-1]]


def check_step(step: str) -> str:
    """Return the name of a compile step if it may be one. Raises ValueError."""
    if not _STEP.fullmatch(step):
        raise ValueError(f"not a compile step's name: {step[:100]!r}")
    return step


def _from_state(state: State) -> dict[str, Any]:
    uses: dict[str, dict[str, Any]] = {}
    for (step, outcome), use in state.uses.items():
        value = {"at": use.at, "count": use.count, "bytes": use.bytes, "bits": use.bits}
        if use.fingerprint is not None:
            value["fingerprint"] = use.fingerprint.as_json()
        uses.setdefault(step, {})[outcome] = value
    return {
        "sequence": state.sequence,
        "written": state.written,
        "writer": state.writer,
        "reason": state.reason,
        "segments": [{"name": s.object.name, "size": s.object.size, "entries": s.entries} for s in state.segments],
        "uses": uses,
    }


def _to_head(value: dict[str, Any], where: str) -> Head:
    if value["format"] != _FORMAT:
        raise CorruptError.of(where, "not a head of format version 1", "a newer imagetiers may have written it")
    retired = {_object_name(name): float(at) for name, at in value["retired"].items()}
    if len(retired) > _RETIRED_MAX or len(value["history"]) > HISTORY_MAX:
        raise ValueError
    return Head(_to_state(value["state"]), _text(value["parent"]), tuple(map(_to_state, value["history"])), retired)


def _to_state(value: dict[str, Any]) -> State:
    segments = tuple(
        SegmentRef(PackRef(_text(s["name"]), _count(s["size"])), _count(s["entries"], ENTRIES_MAX))
        for s in value["segments"]
    )
    uses = {
        (check_step(step), outcome): _to_use(use)
        for step, outcomes in value["uses"].items()
        for outcome, use in outcomes.items()
    }
    if (
        len(segments) > _SEGMENTS_MAX
        or len(value["uses"]) > _STEPS_MAX
        or any(outcome not in OUTCOMES for _, outcome in uses)
    ):
        raise ValueError
    return State(
        _count(value["sequence"]),
        float(value["written"]),
        _text(value["writer"]),
        _text(value["reason"]),
        segments,
        uses,
    )


def _to_use(value: dict[str, Any]) -> Use:
    found = value.get("fingerprint")
    fingerprint = None if found is None else Fingerprint.from_json(found)
    return Use(float(value["at"]), _count(value["count"]), _count(value["bytes"]), _text(value["bits"]), fingerprint)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: object, most: int = 1 << 62) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError
    return value


def _object_name(name: str) -> str:
    folder, _, rest = name.partition("/")
    if folder not in {"packs", "index"}:
        raise ValueError
    PackRef(rest, 1)
    return name
