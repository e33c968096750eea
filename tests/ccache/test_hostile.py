"""Content that somebody made to hurt: nothing outside the directory is touched and nothing bad is applied."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.format.head import Head, NamespaceState, SegmentRef, encode_head
from imagetiers.ccache.format.index import Entry, encode_segment
from imagetiers.ccache.format.pack import PACK_MAX, Codec, PackRef, SectionRef, Slot, assemble, make_section, pack_ref
from imagetiers.ccache.local import scan
from imagetiers.ccache.prune import prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.rollback import rebuild, rollback
from imagetiers.ccache.verify import verify
from imagetiers.errors import CorruptError
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.compressed import compressed_section
from tests.ccache.synthetic import entries_in, make_directory, make_entry, make_name

NONCE = "0" * 16


def publish(store: DirectoryStore, entries: list[Entry], *packs: bytes) -> None:
    for data in packs:
        store.write(f"ccache/main/packs/{pack_ref(data, NONCE).name}", data)
    segment = encode_segment(entries, NONCE)
    ref = pack_ref(segment, NONCE)
    store.write(f"ccache/main/index/{ref.name}", segment)
    head = Head(NamespaceState(1, segments=(SegmentRef(ref, len(entries)),)))
    store.write("ccache/main/head", encode_head(head))


def good_pack(count: int, *, compressed: bool, seed: int = 0) -> tuple[bytes, list[Entry]]:
    files = [(make_name(seed + n), make_entry(b"%d" % n * 500, created=n), n) for n in range(count)]
    sections = [(compressed_section if compressed else make_section)(Kind.RESULT, files)]
    data, refs = assemble(sections)
    pack = pack_ref(data, NONCE)
    return data, [Entry(s, ref, pack) for section, ref in zip(sections, refs, strict=True) for s in section.slots]


def objects(store: DirectoryStore, folder: str) -> list[str]:
    return [blob.name for blob in store.list(f"ccache/main/{folder}/")]


def flip(store: DirectoryStore, name: str, at: int) -> None:
    """Change one bit; the store's own checksum is right again, as after a fault above it."""
    data = bytearray(store.read(name)[0])
    data[at % len(data)] ^= 0x10
    store.write(name, bytes(data))


def test_a_flipped_bit_anywhere_in_a_pack_quarantines_it_whole(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 10)
    push(store, "main", tmp_path / "a")
    more = make_directory(tmp_path / "a", 10, seed=1)
    push(store, "main", tmp_path / "a")
    pack = objects(store, "packs")[0]
    good = store.read(pack)[0]
    for at in range(0, len(good), max(1, len(good) // 25)):
        flip(store, pack, at)
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        result = pull(store, ["main"], tmp_path / "b")
        assert entries_in(tmp_path / "b") in (made, more)
        assert len(result.quarantined) == 1
        assert pack in result.quarantined[0]
        store.write(pack, good)
    assert pull(store, ["main"], tmp_path / "b").quarantined == ()


def test_a_flipped_bit_in_the_head_or_index_is_noticed(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 10)
    push(store, "main", tmp_path / "a")
    (index,) = objects(store, "index")
    good = store.read(index)[0]
    for at in range(0, len(good), 37):
        flip(store, index, at)
        result = pull(store, ["main"], tmp_path / "b")
        assert (result.entries, len(result.quarantined)) == (0, 1)
        store.write(index, good)
    head = store.read("ccache/main/head")[0]
    for at in range(0, len(head), 7):
        flip(store, "ccache/main/head", at)
        result = pull(store, ["main"], tmp_path / f"h{at}")
        assert entries_in(tmp_path / f"h{at}") in ({}, made)
        store.write("ccache/main/head", head)


def test_a_push_adds_what_a_damaged_segment_listed(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 10)
    push(store, "main", tmp_path / "a")
    flip(store, objects(store, "index")[0], 30)
    shutil.rmtree(tmp_path / "a" / "imagetiers")
    result = push(store, "main", tmp_path / "a")
    assert (result.entries, len(result.lost)) == (10, 1)
    assert len(pull(store, ["main"], tmp_path / "b").quarantined) == 1  # it is still listed: it may turn up again
    assert entries_in(tmp_path / "b") == made
    assert prune(store, "main", accept_loss=True).given_up == result.lost
    assert pull(store, ["main"], tmp_path / "c").quarantined == ()
    assert entries_in(tmp_path / "c") == made


def test_a_damaged_head_stops_a_push_and_can_be_rebuilt(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 10)
    push(store, "main", tmp_path / "a")
    store.write("ccache/main/head", b"{")
    with pytest.raises(CorruptError):
        push(store, "main", tmp_path / "a")
    assert pull(store, ["main"], tmp_path / "b").quarantined != ()
    assert rebuild(store, "main").entries == 10
    pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == made
    assert push(store, "main", tmp_path / "a").entries == 0


def test_a_missing_pack_costs_only_its_entries(store: DirectoryStore, tmp_path: Path) -> None:
    make_directory(tmp_path / "a", 10)
    push(store, "main", tmp_path / "a")
    store.delete(objects(store, "packs")[0])
    more = make_directory(tmp_path / "c", 10, seed=1)
    push(store, "main", tmp_path / "c")
    result = pull(store, ["main"], tmp_path / "b", everything=True)
    assert len(result.quarantined) == 1
    assert entries_in(tmp_path / "b") == more


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("lie", ["name", "content", "offset", "size", "swap", "kind"])
def test_an_index_that_lies_about_a_good_pack(
    store: DirectoryStore, tmp_path: Path, lie: str, *, compressed: bool
) -> None:
    data, entries = good_pack(6, compressed=compressed)
    slot = entries[0].slot
    lies: dict[str, Slot] = {
        "name": slot,
        "content": replace(slot, content=bytes(16)),
        "offset": replace(slot, offset=slot.offset + 1),
        "size": replace(slot, size=slot.size + 1, length=slot.length if compressed else slot.length + 1),
        "swap": replace(entries[1].slot, name=slot.name),
        "kind": slot,
    }
    evil = replace(entries[0], slot=lies[lie])
    if lie == "kind":
        evil = replace(evil, section=replace(evil.section, kind=Kind.MANIFEST))
    if lie == "name":
        evil = replace(evil, slot=replace(slot, name=make_name(99, 1, new=False)[:-1] + "R"))
    publish(store, [evil, *entries[1:]], data)
    result = pull(store, ["main"], tmp_path / "b")
    if lie in {"name", "swap"}:
        # Indistinguishable from a rename: the bytes are an intact entry of the kind that the name allows. ccache
        # stores no key in an entry; what vouches for the name is the index, whose hash the head vouches for.
        assert result.quarantined == ()
    else:
        assert entries_in(tmp_path / "b") == {}
        assert len(result.quarantined) == 1


def test_a_bad_entry_in_a_pack_with_a_right_hash_is_never_half_applied(store: DirectoryStore, tmp_path: Path) -> None:
    files = [(make_name(n), make_entry(b"%d" % n * 500), n) for n in range(6)]
    section = make_section(Kind.RESULT, files)
    broken = bytearray(section.data)
    broken[-20] ^= 1
    data, (ref,) = assemble([replace(section, data=bytes(broken))])
    publish(store, [Entry(slot, ref, pack_ref(data, NONCE)) for slot in section.slots], data)
    result = pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == {}
    assert len(result.quarantined) == 1


def test_a_pack_fetched_whole_is_refused_for_a_bit_that_nobody_wants(store: DirectoryStore, tmp_path: Path) -> None:
    data, entries = good_pack(6, compressed=False)
    publish(store, entries[:-1], data)
    pack = objects(store, "packs")[0]
    flip(store, pack, len(data) - 30)
    result = pull(store, ["main"], tmp_path / "b")
    assert (result.entries, len(result.quarantined)) == (0, 1)


def test_an_index_that_lists_another_section_than_the_pack_has(store: DirectoryStore, tmp_path: Path) -> None:
    data, entries = good_pack(6, compressed=False)
    publish(store, [replace(e, section=replace(e.section, count=7)) for e in entries], data)
    result = pull(store, ["main"], tmp_path / "b")
    assert (result.entries, len(result.quarantined)) == (0, 1)


def test_a_pack_with_more_bytes_than_there_is_room_for_is_not_fetched(store: DirectoryStore, tmp_path: Path) -> None:
    files = [(make_name(n), make_entry(os.urandom(3 << 20), created=n), n) for n in range(2)]
    data, (ref,) = assemble([section := make_section(Kind.RESULT, files)])
    data += bytes(PACK_MAX + 1 - len(data))
    pack = pack_ref(data, NONCE)
    publish(store, [Entry(slot, ref, pack) for slot in section.slots], data)
    result = pull(store, ["main"], tmp_path / "b")
    assert (result.entries, result.fetched_bytes) == (0, 0)
    assert "holds more than a pack may" in result.quarantined[0]


def test_a_bomb_costs_neither_memory_nor_disk(store: DirectoryStore, tmp_path: Path) -> None:
    good, good_entries = good_pack(3, compressed=True, seed=50)
    body = zstandard.compress(bytes(range(256)) * 4 + bytes((8 << 20) - 1024))
    slot = Slot(make_name(1), 0, 8 << 20, 100, bytes(16), 0, 0)
    ref = SectionRef(Codec.ZSTD, Kind.RESULT, 1, 40, len(body), 8 << 20)
    table = assemble([])[0][:6] + b"\x01\x00"
    data = table + bytes([1, 0, 0, 0]) + (1).to_bytes(4, "little")
    data += b"".join(n.to_bytes(8, "little") for n in (40, len(body), 8 << 20)) + body
    huge = Slot(make_name(2), 0, 100, 1 << 50, bytes(16), 0, 0)
    pack = pack_ref(data, NONCE)
    publish(store, [Entry(slot, ref, pack), Entry(huge, ref, pack), *good_entries], data, good)
    result = pull(store, ["main"], tmp_path / "b")
    assert len(entries_in(tmp_path / "b")) == 3
    assert len(result.quarantined) == 1


def test_links_in_the_cache_directory_are_not_followed(store: DirectoryStore, tmp_path: Path) -> None:
    name = make_name(1)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    a = tmp_path / "a" / name[0] / name[1]
    a.mkdir(parents=True)
    (a / name[2:]).symlink_to(victim)
    push(store, "main", tmp_path / "a")
    assert list(store.list()) == []
    made = make_directory(tmp_path / "c", 1, manifests=0.0)
    push(store, "main", tmp_path / "c")
    (only,) = made
    b = tmp_path / "b" / only[0] / only[1]
    b.mkdir(parents=True)
    (b / only[2:]).symlink_to(victim)
    pull(store, ["main"], tmp_path / "b")
    assert victim.read_bytes() == b"precious"
    assert entries_in(tmp_path / "b") == made


def test_a_large_entry_that_is_not_what_the_index_says(store: DirectoryStore, tmp_path: Path) -> None:
    data = make_entry(b"x" * 100)
    slot = Slot(make_name(1), 0, len(data), len(data), data[-16:], 0, 0)
    ref = SectionRef(Codec.BARE, Kind.RESULT, 1, 0, len(data), len(data))
    lying = PackRef(f"{hashlib.sha256(b'other').hexdigest()}-{NONCE}", len(data))
    store.write(f"ccache/main/packs/{lying.name}", data)
    publish(store, [Entry(slot, ref, lying)])
    result = pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == {}
    assert len(result.quarantined) == 1
    assert list((tmp_path / "b").rglob("*.tmp.*")) == []


def test_verify_finds_it_and_a_push_brings_it_back(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 20)
    push(store, "main", tmp_path / "a")
    checked = verify(store, "main")
    assert (checked.ok, checked.entries, checked.packs) == (True, 20, 1)
    flip(store, objects(store, "packs")[0], 1000)
    checked = verify(store, "main")
    assert (checked.ok, checked.entries, len(checked.bad)) == (False, 0, 20)
    dropped = verify(store, "main", drop_bad=True)
    assert dropped.dropped == 20
    assert verify(store, "main").ok
    assert push(store, "main", tmp_path / "a").entries == 20
    pull(store, ["main"], tmp_path / "b")
    assert entries_in(tmp_path / "b") == made
    store.write("ccache/main/head", b"[]")
    with pytest.raises(CorruptError):
        rollback(store, "main")


def test_a_full_disk_stops_a_pull_and_leaves_whole_entries(store: DirectoryStore, tmp_path: Path) -> None:
    made = make_directory(tmp_path / "a", 200, mean=20_000, manifests=0.0)
    push(store, "main", tmp_path / "a")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        result = pull(store, ["main"], small)
        assert "No space left" in result.stopped
        assert "stopped: " in str(result)
        assert entries_in(small).items() <= made.items()
        assert result.entries == len(scan(small))
        assert list(small.rglob("*.tmp.*")) == []
    finally:
        subprocess.run(["umount", small], check=True)
