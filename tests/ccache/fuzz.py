"""Fuzz one reader: valid input, changed so that it gets past checksums, under a limit on memory and time.

    python -m tests.ccache.fuzz head 600       the head's reader for ten minutes; what breaks it is kept in tests/ccache/corpus

Seconds are the processor's: ten minutes are as many inputs on a busy machine as on a quiet one. A reader may return, or
raise CorruptError; everything else is a find.
"""

from __future__ import annotations

import hashlib
import json
import random
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash
import zstandard

from imagetiers.ccache.format.entry import Kind, check_entry, rewrap
from imagetiers.ccache.format.fingerprint import Compiler, Fingerprint
from imagetiers.ccache.format.head import (
    Head,
    NamespaceState,
    SegmentRef,
    Use,
    decode_bits,
    decode_head,
    decode_notes,
    decode_sets,
    encode_bits,
    encode_head,
    encode_notes,
    encode_sets,
)
from imagetiers.ccache.format.index import Entry, decode_segment, encode_segment
from imagetiers.ccache.format.merge import Live, used_names
from imagetiers.ccache.format.pack import PackRef, Section, assemble, decode_section, make_section, pack_ref, parse_pack
from imagetiers.errors import CorruptError, ImagetiersError
from tests.ccache import format_1
from tests.ccache.compressed import compressed_section, unwrap
from tests.ccache.synthetic import make_entry, make_name

NONCE = "0123456789abcdef"
NAME = "ab" * 32 + "-" + NONCE
CORPUS = Path(__file__).with_name("corpus")
MEMORY = 768 << 20

Draw = random.Random


def _files(draw: Draw) -> list[tuple[str, bytes, int]]:
    return [
        (make_name(n), make_entry(draw.randbytes(draw.randrange(1, 400)), created=n), n)
        for n in range(draw.randrange(1, 6))
    ]


def _section(draw: Draw) -> Section:
    return (compressed_section if draw.random() < 0.7 else make_section)(Kind.RESULT, _files(draw))


def _pack(draw: Draw) -> bytes:
    return assemble([_section(draw)])[0]


def _segment(draw: Draw) -> bytes:
    sections = [_section(draw)]
    data, refs = assemble(sections)
    pack = pack_ref(data, NONCE)
    entries = [Entry(slot, ref, pack) for section, ref in zip(sections, refs, strict=True) for slot in section.slots]
    return encode_segment(entries, NONCE)


def _uses() -> dict[tuple[str, str], Use]:
    print_ = Fingerprint({"g++": Compiler("12", "ab" * 32)}, ("-O2",), ("8.0",), "v2", "4.14.2", {"a": "b"}, {})
    return {("torch", "good"): Use(1.5, 2, 300, encode_bits(0b101, 3), print_)}


def _head(draw: Draw) -> bytes:
    ref = SegmentRef(PackRef(NAME, 500), 3)
    if draw.random() < 0.3:
        use = format_1.Use(1.5, 2, 300, format_1.encode_bits([True, False, True]))
        old = format_1.State(7, 2.5, "me", "push", (format_1.SegmentRef(ref.object, 3),), {("torch", "good"): use})
        return format_1.encode_head(format_1.Head(old, "cd" * 32, (old,), {f"packs/{NAME}": 9.5}))
    state = NamespaceState(7, 2.5, "me", "push", (ref,), _uses())
    large = NamespaceState(6, 2.5, "me", "push", (ref,), {}, PackRef(NAME, 90))
    return encode_head(Head(state, "cd" * 32, (large, state), {f"packs/{NAME}": 9.5}))


def _read_head(data: bytes) -> None:
    head = decode_head(data)
    for state in (head.state, *head.history):
        rows = [()] * len(state.segments)
        used_names(state, rows, state.uses.values())


def _read_segment(data: bytes) -> None:
    rows = decode_segment(data)
    Live([rows])
    list(rows)


def _read_pack(data: bytes) -> None:
    for section in parse_pack(data):
        decode_section(section, memoryview(data)[section.offset : section.offset + section.stored])


def _read_entry(data: bytes) -> None:
    body = unwrap(data, check_entry(data, ""))
    if body is not None:
        rewrap(body)


def _signed(data: bytes) -> bytes:
    """Give a head the checksum of what it has become."""
    text = data.rsplit(b"\n", 2)[0]
    return text + b"\n" + xxhash.xxh3_128_hexdigest(text).encode() + b"\n"


def _sealed(data: bytes) -> bytes:
    return data[:-16] + xxhash.xxh3_128_digest(data[:-16]) if len(data) > 16 else data


def _repacked(data: bytes, draw: Draw) -> bytes:
    """Change a segment's raw bytes and compress them again."""
    raw = zstandard.ZstdDecompressor().decompress(data[16:])
    raw = _mutated(raw, draw)
    return data[:8] + struct.pack("<Q", len(raw)) + zstandard.compress(raw)


NUMBERS = [0, 1, 255, 1 << 15, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1]
VALUES: list[Any] = [
    *(None, True, -1, 0, 1 << 62, 1 << 63, 10**400, 1.5, -1e308, 1e308, "", "x", "a" * 5000, [], {}, [[[]]], "\ud800"),
    *("NaN", "Infinity", "1e999", "../x", "\x1b[2J", NAME, {"name": NAME, "size": 1 << 60}),
]


def _mutated(data: bytes, draw: Draw) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(changed) + 1) if changed else 0
        how = draw.randrange(5)
        if how == 0 and at < len(changed):
            changed[at] ^= draw.randrange(1, 256)
        elif how == 1:
            del changed[at : at + draw.randrange(1, 64)]
        elif how == 2:
            changed[at:at] = draw.randbytes(draw.randrange(1, 16))
        elif how == 3:
            width = draw.choice((2, 4, 8))
            changed[at : at + width] = (draw.choice(NUMBERS) % (1 << (8 * width))).to_bytes(
                width, draw.choice(("little", "big"))
            )
        elif how == 4 and changed:
            start = draw.randrange(len(changed))
            changed[at:at] = changed[start : start + draw.randrange(1, 200)]
    return bytes(changed)


def _json_mutated(data: bytes, draw: Draw) -> bytes:
    try:
        value = json.loads(data.split(b"\n")[0])
    except ValueError:
        return _mutated(data, draw)
    at = value
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            break
        key = draw.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and draw.random() < 0.8:
            at = at[key]
            continue
        what = draw.randrange(4)
        if what == 0 and isinstance(at, list):
            at.extend([at[key]] * draw.choice((1, 12, 300)))
        elif what == 1 and isinstance(at, dict):
            del at[key]
        elif what == 2 and isinstance(at, dict):
            at[draw.choice([str(v) for v in VALUES])] = at[key]
        else:
            at[key] = draw.choice(VALUES)
        break
    text = json.dumps(value)
    if draw.random() < 0.1:
        text = text.replace("1.5", draw.choice(["NaN", "Infinity", "-Infinity", "1e999"]))
    return text.encode("utf-8", "surrogatepass")


def _fuzz_head(draw: Draw) -> bytes:
    data = _head(draw)
    return (
        _signed(_json_mutated(data, draw) + b"\n\n") if draw.random() < 0.7 else _signed(_mutated(data, draw) + b"\n\n")
    )


def _fuzz_bits(draw: Draw) -> bytes:
    rows = draw.choice((0, 1, 7, 8, 1000))
    return encode_bits(draw.getrandbits(rows) if rows else 0, rows).encode()


READERS: dict[str, tuple[Callable[[Draw], bytes], Callable[[bytes], object]]] = {
    "head": (_fuzz_head, _read_head),
    "sets": (lambda draw: _json_mutated(encode_sets(_uses()), draw), decode_sets),
    "notes": (lambda draw: _json_mutated(encode_notes({f"packs/{NAME}": 9.5}), draw), decode_notes),
    "segment": (lambda draw: _repacked(_segment(draw), draw), _read_segment),
    "segment-outside": (lambda draw: _mutated(_segment(draw), draw), _read_segment),
    "pack": (lambda draw: _mutated(_pack(draw), draw), _read_pack),
    "entry": (
        lambda draw: _sealed(_mutated(make_entry(draw.randbytes(200), kind=draw.randrange(2)), draw)),
        _read_entry,
    ),
    "bits": (
        lambda draw: _mutated(_fuzz_bits(draw), draw),
        lambda data: decode_bits(data.decode("latin-1"), 1000),
    ),
}


def fuzz(name: str, *, seconds: float = 1e9, examples: int = 1 << 62, seed: int = 0) -> int:
    """Try a reader; return how many inputs it was given. A find is kept and raised."""
    make, read = READERS[name]
    began, count = time.process_time(), 0
    while count < examples and time.process_time() - began < seconds:
        data = make(random.Random(f"{name} {seed} {count}"))
        count += 1
        started = time.process_time()
        try:
            read(data)
        except CorruptError:
            pass
        except BaseException:
            kind = {"segment-outside": "segment"}.get(name, name)
            (CORPUS / f"found-{hashlib.sha256(data).hexdigest()[:12]}.{kind}").write_bytes(data)
            raise
        if time.process_time() - started > 30:
            raise ImagetiersError
    return count


def main() -> None:
    name, seconds = sys.argv[1], float(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    print(name, fuzz(name, seconds=seconds, seed=time.time_ns()), "inputs, no find")  # noqa: T201


if __name__ == "__main__":
    main()
