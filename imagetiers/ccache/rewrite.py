"""Write entries of packs into new packs: of packs that are mostly dead, to let go of the rest."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

from imagetiers.ccache.format.entry import Kind
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.pack import (
    PACK_MAX,
    PackRef,
    Section,
    assemble,
    decode_section,
    make_section,
    pack_ref,
    parse_pack,
    restore_entry,
    split,
    table_size,
)
from imagetiers.ccache.namespace import Namespace
from imagetiers.errors import CorruptError, NotFoundError

__all__ = ["rewrite"]

_SECTION_BYTES = 4 * 1024 * 1024


def rewrite(space: Namespace, entries: Sequence[Entry]) -> dict[str, Entry]:
    """Write these entries into new packs; return where each lies now. Raises StoreError.

    What lies in a pack that cannot be read or is damaged stays there: verify is for that.
    """
    moved: dict[str, Entry] = {}
    for sections in _packs_of(_sections(space, entries)):
        data, made = _fill(space, sections)
        space.create(space.object("packs", made[0].pack.name), data)
        moved |= {entry.name: entry for entry in made}
    return moved


def _sections(space: Namespace, entries: Sequence[Entry]) -> Iterator[Section]:
    """Read entries and make sections of them, kind by kind, a few MiB at a time."""
    for kind in (Kind.MANIFEST, Kind.RESULT):
        files: list[tuple[str, bytes, int]] = []
        held = 0
        for name, data, mtime in _files(space, [entry for entry in entries if entry.kind is kind]):
            if files and held + len(data) > _SECTION_BYTES:
                yield make_section(kind, files)
                files, held = [], 0
            files.append((name, data, mtime))
            held += len(data)
        if files:
            yield make_section(kind, files)


def _files(space: Namespace, entries: Sequence[Entry]) -> Iterator[tuple[str, bytes, int]]:
    """Read entries back, pack by pack."""
    by_pack: dict[PackRef, list[Entry]] = {}
    for entry in entries:
        by_pack.setdefault(entry.pack, []).append(entry)
    for pack, members in by_pack.items():
        where = space.object("packs", pack.name)
        with contextlib.suppress(CorruptError, NotFoundError):
            data, _ = space.store.read(where, length=pack.size + 1)
            if hashlib.sha256(data).hexdigest() != pack.sha256:
                continue
            yield from list(_restored(data, members, where))


def _restored(data: bytes, members: Sequence[Entry], where: str) -> Iterator[tuple[str, bytes, int]]:
    for section in parse_pack(data, where):
        chosen = [entry for entry in members if entry.section == section]
        if chosen:
            stored = memoryview(data)[section.offset : section.offset + section.stored]
            decoded = memoryview(decode_section(section, stored, where))
        for entry in chosen:
            slot = entry.slot
            part = decoded[slot.offset : slot.offset + slot.length]
            yield slot.name, bytes(restore_entry(section.codec, slot, part, entry.kind)), slot.mtime


def _packs_of(sections: Iterator[Section]) -> Iterator[list[Section]]:
    """Fill packs in order; sections are cut so that packs are full. The caller may clear what it got."""
    pack: list[Section] = []
    held = 0
    for whole in sections:
        rest: Section | None = whole
        while rest is not None:
            room = PACK_MAX - table_size(len(pack) + 1) - held
            if len(rest.data) <= room:
                pack.append(rest)
                held, rest = held + len(rest.data), None
                continue
            parts = split(rest, room)
            if parts:
                pack.append(parts[0])
                rest = parts[1]
            yield pack
            pack, held = [], 0
    if pack:
        yield pack


def _fill(space: Namespace, sections: Sequence[Section]) -> tuple[bytes, list[Entry]]:
    """Make a pack of sections; return its bytes and where each entry lies in it."""
    data, refs = assemble(sections)
    pack = pack_ref(data, space.nonce)
    return data, [Entry(slot, ref, pack) for section, ref in zip(sections, refs, strict=True) for slot in section.slots]
