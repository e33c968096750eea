"""Packs, index segments, heads, working sets, fingerprints: what goes in comes out, and nothing else is accepted."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.format.fingerprint import Compiler, Fingerprint
from imagetiers.ccache.format.head import (
    HISTORY_MAX,
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
from imagetiers.ccache.format.pack import (
    Codec,
    PackRef,
    Section,
    SectionRef,
    assemble,
    decode_section,
    make_section,
    pack_ref,
    parse_pack,
    restore_entry,
    split,
)
from imagetiers.errors import CorruptError, StoreError
from tests.ccache import format_1
from tests.ccache.compressed import compressed_section
from tests.ccache.synthetic import make_entry, make_name

NONCE = "0123456789abcdef"
CORPUS = Path(__file__).with_name("corpus")

payloads = st.lists(st.binary(min_size=1, max_size=600), min_size=1, max_size=12)


def some_files(bodies: list[bytes], kind: int = 0) -> list[tuple[str, bytes, int]]:
    return [(make_name(n), make_entry(body, kind=kind, created=n), 10**18 + n) for n, body in enumerate(bodies)]


def some_pack(bodies: list[bytes], *, compressed: bool = True) -> tuple[bytes, list[Entry], dict[str, bytes]]:
    files = some_files(bodies)
    sections = [(compressed_section if compressed else make_section)(Kind.RESULT, files)]
    data, refs = assemble(sections)
    pack = pack_ref(data, NONCE)
    entries = [Entry(slot, ref, pack) for section, ref in zip(sections, refs, strict=True) for slot in section.slots]
    return data, entries, {name: content for name, content, _ in files}


def read_back(data: bytes, entries: list[Entry]) -> dict[str, bytes]:
    found = {}
    table = parse_pack(data)
    for entry in entries:
        section, slot = entry.section, entry.slot
        assert section in table
        raw = memoryview(decode_section(section, data[section.offset : section.offset + section.stored]))
        part = raw[slot.offset : slot.offset + slot.length]
        found[slot.name] = bytes(restore_entry(section.codec, slot, part, entry.kind))
    return found


@given(payloads, st.booleans(), st.booleans())
def test_a_pack_gives_back_every_entry(bodies: list[bytes], compressed: bool, alike: bool) -> None:  # noqa: FBT001
    data, entries, files = some_pack([b * 20 for b in bodies] if alike else bodies, compressed=compressed)
    assert read_back(data, entries) == files
    assert pack_ref(data, NONCE).size == len(data)


@given(payloads, st.integers(0, 8000))
def test_a_cut_section_loses_nothing(bodies: list[bytes], room: int) -> None:
    section = make_section(Kind.RESULT, some_files(bodies))
    parts = split(section, room)
    if parts is None:
        assert len(section.slots) == 1 or room < section.slots[0].length or room >= len(section.data)
        return
    first, second = parts
    assert len(first.data) <= room
    assert bytes(first.data) + bytes(second.data) == section.data
    data, refs = assemble(parts)
    pack = pack_ref(data, NONCE)
    entries = [Entry(slot, ref, pack) for part, ref in zip(parts, refs, strict=True) for slot in part.slots]
    assert read_back(data, entries) == {name: content for name, content, _ in some_files(bodies)}


@settings(max_examples=300)
@given(payloads, st.data())
def test_a_damaged_pack_is_corrupt_or_the_same(bodies: list[bytes], draw: st.DataObject) -> None:
    data, entries, files = some_pack(bodies)
    damaged = mutate(data, draw)
    try:
        found = read_back(damaged, entries)
    except (CorruptError, AssertionError):
        return
    assert found == files


@given(st.binary(max_size=300))
def test_garbage_is_no_pack_segment_head_or_bitmap(data: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [parse_pack, decode_segment, decode_head, decode_sets, decode_notes]
    for parse in parsers:
        with pytest.raises(CorruptError):
            parse(data)
    with pytest.raises(CorruptError):
        decode_bits(data.decode("latin-1"), 7)


def mutate(data: bytes, draw: st.DataObject) -> bytes:
    changed = bytearray(data)
    how = draw.draw(st.sampled_from(["flip", "cut", "insert", "zero", "copy"]))
    at = draw.draw(st.integers(0, len(data) - 1))
    if how == "flip":
        changed[at] ^= draw.draw(st.integers(1, 255))
    elif how == "cut":
        del changed[at : at + draw.draw(st.integers(1, len(data)))]
    elif how == "insert":
        changed[at:at] = draw.draw(st.binary(min_size=1, max_size=9))
    elif how == "zero":
        changed[at : at + 8] = bytes(min(8, len(data) - at))
    else:
        changed[at : at + 8] = changed[:8]
    return bytes(changed)


@given(payloads)
def test_a_segment_gives_back_every_entry(bodies: list[bytes]) -> None:
    _, entries, _ = some_pack(bodies)
    assert decode_segment(encode_segment(entries, NONCE)) == tuple(entries)


def test_an_empty_segment() -> None:
    assert decode_segment(encode_segment([], NONCE)) == ()


@settings(max_examples=300)
@given(payloads, st.data())
def test_a_damaged_segment_is_corrupt_or_well_formed(bodies: list[bytes], draw: st.DataObject) -> None:
    _, entries, _ = some_pack(bodies)
    data = encode_segment(entries, NONCE)
    raw = mutate(zstandard.ZstdDecompressor().decompress(data[16:]), draw)
    for damaged in (mutate(data, draw), data[:8] + struct.pack("<Q", len(raw)) + zstandard.compress(raw)):
        try:
            found = decode_segment(damaged)
        except CorruptError:
            continue
        for entry in found:
            assert entry.slot.offset + entry.slot.length <= entry.section.raw
            assert entry.section.offset + entry.section.stored <= entry.pack.size


def test_a_bomb_is_refused_without_being_unpacked() -> None:
    bomb = zstandard.compress(bytes(64 << 20))
    with pytest.raises(CorruptError):
        SectionRef(Codec.ZSTD, Kind.RESULT, 1, 32, len(bomb), 64 << 20)
    with pytest.raises(CorruptError):
        decode_section(SectionRef(Codec.ZSTD, Kind.RESULT, 1, 32, len(bomb), 8 << 20), bomb)
    with pytest.raises(CorruptError):
        decode_segment(struct.pack("<4sHHQ", b"ITIX", 1, 0, 1 << 40) + bomb)
    with pytest.raises(CorruptError):
        decode_segment(struct.pack("<4sHHQ", b"ITIX", 1, 0, 100) + bomb)


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "a" * 39, "a" * 41, "A" * 40, "a" * 33 + "W", ""]
)
def test_a_segment_with_a_foreign_name_is_refused(name: str) -> None:
    _, entries, _ = some_pack([b"one"])
    data = encode_segment(entries, NONCE)
    raw = zstandard.ZstdDecompressor().decompress(data[16:])
    old = entries[0].name.encode()
    evil = raw.replace(old, name.encode())
    evil = evil[:12] + struct.pack("<I", len(name.encode())) + evil[16:]
    with pytest.raises(CorruptError):
        decode_segment(data[:8] + struct.pack("<Q", len(evil)) + zstandard.compress(evil))


@pytest.mark.parametrize(
    "names",
    [
        [b"a" * 39, b"b" * 41, b"c" * 40],
        [b"a" * 40, b"b" * 40, b"c" * 39 + b"g"],
        [b"a" * 40, b"b" * 19 + b"\n" + b"b" * 20, b"c" * 40],
        [b"a" * 40, b"b" * 40, b"b" * 40],
    ],
)
def test_a_segment_with_a_foreign_name_among_others_is_refused(names: list[bytes]) -> None:
    _, entries, _ = some_pack([b"one", b"two", b"three"])
    data = encode_segment(entries, NONCE)
    raw = zstandard.ZstdDecompressor().decompress(data[16:])
    joined = b"\n".join(entry.name.encode() for entry in entries)
    assert joined in raw
    good = zstandard.compress(raw.replace(joined, b"\n".join([b"a" * 40, b"b" * 40, b"c" * 40])))
    assert [entry.name[0] for entry in decode_segment(data[:16] + good)] == ["a", "b", "c"]
    with pytest.raises(CorruptError):
        decode_segment(data[:16] + zstandard.compress(raw.replace(joined, b"\n".join(names))))


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 20))
def test_bits_come_back(members: list[bool], appended: int) -> None:
    number = sum(1 << row for row, member in enumerate(members) if member)
    bits = encode_bits(number, len(members))
    assert decode_bits(bits, len(members) + appended) == number
    if members:
        with pytest.raises(CorruptError):
            decode_bits(bits, len(members) - 1)


def some_uses() -> dict[tuple[str, str], Use]:
    print_ = Fingerprint({"g++": Compiler("12.2.0", "ab" * 32)}, ("-O2",), ("8.0",), "v2.6.0", "4.14.2", {"a": "b"}, {})
    use = Use(1.5, 2, 300, encode_bits(0b101, 3), print_)
    return {("torch", "good"): use, ("torch", "partial"): use}


def some_head() -> Head:
    ref = SegmentRef(PackRef("ab" * 32 + "-" + NONCE, 500), 3)
    state = NamespaceState(7, 2.5, "me", "push", (ref,), {}, PackRef("12" * 32 + "-" + NONCE, 900))
    return Head(state, "cd" * 32, (state,), {}, PackRef("34" * 32 + "-" + NONCE, 90))


def old_head() -> format_1.Head:
    ref = format_1.SegmentRef(PackRef("ab" * 32 + "-" + NONCE, 500), 3)
    use = format_1.Use(1.5, 2, 300, format_1.encode_bits([True, False, True]))
    state = format_1.State(7, 2.5, "me", "push", (ref,), {("torch", "good"): use})
    return format_1.Head(state, "cd" * 32, (state,), {"packs/" + "ef" * 32 + "-" + NONCE: 9.5})


def test_a_head_and_what_it_refers_to_come_back() -> None:
    assert decode_head(encode_head(some_head())) == some_head()
    assert decode_head(encode_head(Head())) == Head()
    assert decode_sets(encode_sets(some_uses())) == some_uses()
    retired = {"packs/" + "ef" * 32 + "-" + NONCE: 9.5}
    assert decode_notes(encode_notes(retired)) == retired


def test_small_sets_and_notes_lie_in_the_head() -> None:
    head = Head(NamespaceState(1, uses=some_uses()), retired={"packs/" + "ef" * 32 + "-" + NONCE: 9.5})
    assert decode_head(encode_head(head)) == head


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_head_is_corrupt(draw: st.DataObject) -> None:
    try:
        head = decode_head(mutate(encode_head(some_head()), draw))
    except CorruptError:
        return
    assert head == some_head()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=400)
@given(st.data())
def test_a_head_with_any_value_anywhere_is_corrupt_or_well_formed(draw: st.DataObject) -> None:
    if draw.draw(st.booleans()):
        value = json.loads(encode_head(some_head()).split(b"\n")[0])
    else:
        value = json.loads(format_1.encode_head(old_head()).split(b"\n")[0])
    at = value
    while True:
        key = draw.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at)))))
        if isinstance(at[key], dict | list) and at[key] and draw.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = draw.draw(json_values)
        break
    try:
        text = json.dumps(value).encode()
        head = decode_head(text + b"\n" + xxhash.xxh3_128_hexdigest(text).encode() + b"\n")
    except CorruptError:
        return
    with contextlib.suppress(StoreError):  # such as the highest sequence number
        assert decode_head(encode_head(head)) is not None


def test_a_checkpoint_after_a_checkpoint_takes_its_place_in_the_history() -> None:
    head = Head()
    for reason in ("push", "checkpoint", "checkpoint", "push"):
        head = head.followed_by(NamespaceState(reason=reason), parent="")
    assert [(s.sequence, s.reason) for s in (*head.history, head.state)] == [(1, "push"), (4, "push")]
    for _ in range(40):
        head = head.followed_by(NamespaceState(reason="push"), parent="")
    assert len(head.history) == HISTORY_MAX


def test_a_fingerprint_says_what_changed_in_words() -> None:
    old = Fingerprint(
        {"gcc": Compiler("11.4.0-1ubuntu1~22.04", "aa" * 32), "nvcc": Compiler("12.4", "bb" * 32)},
        ("-O2", "-g"),
        ("8.0",),
        "v2.5.0",
        "4.12.1",
        {"sloppiness": ""},
        {"source": "/src"},
    )
    new = Fingerprint(
        {"gcc": Compiler("11.4.0-1ubuntu1~22.04.2", "cc" * 32), "nvcc": Compiler("12.4", "dd" * 32)},
        ("-O3", "-g"),
        ("8.0", "9.0"),
        "v2.6.0",
        "4.14.2",
        {"sloppiness": "time_macros", "base_dir": "/"},
        {"source": "/build"},
    )
    assert new.differences(old) == (
        "ccache 4.12.1 -> 4.14.2: its keys are made differently",
        "gcc 11.4.0-1ubuntu1~22.04 -> 11.4.0-1ubuntu1~22.04.2",
        "nvcc 12.4: same version, other binary (bbbbbbbbbbbb -> dddddddddddd)",
        "arch list: added 9.0",
        "flags: added -O3, removed -O2",
        "path of source: /src -> /build",
        "ccache setting base_dir: not set -> /",
        "ccache setting sloppiness:  -> time_macros",
        "source v2.5.0 -> v2.6.0",
    )
    assert new.differences(new) == ()
    assert Fingerprint.from_json(json.loads(json.dumps(new.as_json()))) == new
    assert Fingerprint().differences(Fingerprint({"cc": Compiler("1", "")})) == ("cc removed",)


@given(json_values)
def test_no_json_but_a_fingerprint_is_one(value: object) -> None:
    with pytest.raises(CorruptError):
        Fingerprint.from_json(value)


def test_the_kept_corpus_is_refused() -> None:
    """Inputs that once broke a parser, and one of each hostile kind; a new find is added as a file."""
    parsers: dict[str, Callable[[bytes], object]] = {"pack": parse_pack, "segment": decode_segment, "head": decode_head}
    files = sorted(CORPUS.iterdir())
    assert files
    for path in files:
        with pytest.raises(CorruptError):
            parsers[path.suffix[1:]](path.read_bytes())


def test_a_section_is_a_value() -> None:
    section = make_section(Kind.RESULT, some_files([b"x"]))
    assert isinstance(section, Section)
    assert section.raw == len(section.data)
