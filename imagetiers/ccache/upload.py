"""Read and check entry files on a few threads, fill packs in order, upload each as soon as it is full.

Memory: at most `_GROUPS_AHEAD` groups are being read and `threads` packs uploaded at a time.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from imagetiers.ccache.format.entry import Kind, check_entry
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.pack import (
    BARE_MIN,
    PACK_MAX,
    Section,
    assemble,
    make_section,
    pack_ref,
    split,
    table_size,
)
from imagetiers.ccache.large_entry import send_bare
from imagetiers.ccache.local import LocalEntry
from imagetiers.ccache.namespace import Namespace
from imagetiers.errors import CorruptError
from imagetiers.stores.port import Progress

__all__ = ["LocalCandidate", "UploadStats", "fill", "packs_of", "upload"]

_GROUP_BYTES = 2 * 1024 * 1024
_GROUPS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """An entry file that is to be pushed."""

    name: str
    file: LocalEntry
    kind: Kind


@dataclass(frozen=True, slots=True)
class UploadStats:
    """Packs and bytes uploaded."""

    packs: int
    stored: int


def upload(
    space: Namespace,
    candidates: Sequence[LocalCandidate],
    skipped: list[str],
    threads: int,
    progress: Progress | None,
) -> tuple[list[Entry], UploadStats]:
    """Store the candidates' content; return where each lies now. Nothing refers to it yet. Raises StoreError.

    A file that is no intact entry goes into `skipped` with the reason; one that vanished is left out.
    """
    if not candidates:
        return [], UploadStats(0, 0)
    if progress:
        progress.start(sum(candidate.file.size for candidate in candidates))
    ordered = sorted(candidates, key=lambda c: (-c.kind, c.file.mtime, c.name))
    room = threading.BoundedSemaphore(threads)
    with (
        ThreadPoolExecutor(min(_GROUPS_AHEAD, os.cpu_count() or 1), "ccache-pack") as readers,
        ThreadPoolExecutor(threads, "ccache-upload") as senders,
    ):
        sent: list[Future[list[Entry]]] = []
        try:
            for candidate in (c for c in ordered if c.file.size > BARE_MIN):
                sent.append(senders.submit(_send_bare, space, candidate, skipped, progress))  # noqa: PERF401  cancelled below
            groups = _groups(c for c in ordered if c.file.size <= BARE_MIN)
            for sections in packs_of(_sections(readers, groups, skipped)):
                _raise_early(sent)
                data, entries = fill(space, sections)
                sections.clear()  # their bytes are in `data` now
                room.acquire()
                future = senders.submit(_send, space, data, entries, progress)
                future.add_done_callback(lambda _: room.release())
                sent.append(future)
                del data  # the future has it, and only until it is sent
            stored = [entry for future in sent for entry in future.result()]
        except BaseException:
            senders.shutdown(wait=False, cancel_futures=True)
            raise
    packs = {entry.pack for entry in stored}
    return stored, UploadStats(len(packs), sum(pack.size for pack in packs))


def _raise_early(sent: Iterable[Future[list[Entry]]]) -> None:
    for future in sent:
        if future.done():
            future.result()


def _groups(candidates: Iterable[LocalCandidate]) -> Iterator[list[LocalCandidate]]:
    """Cut the ordered candidates into runs of one kind that are read together."""
    group: list[LocalCandidate] = []
    held = 0
    for candidate in candidates:
        full = held + candidate.file.size > _GROUP_BYTES
        if group and (full or group[0].kind is not candidate.kind):
            yield group
            group, held = [], 0
        group.append(candidate)
        held += candidate.file.size
    if group:
        yield group


def _sections(
    pool: ThreadPoolExecutor, groups: Iterator[list[LocalCandidate]], skipped: list[str]
) -> Iterator[Section]:
    """Read groups on the pool, a few ahead, and yield their sections in order; none of a group that has vanished."""
    waiting: deque[Future[Section | None]] = deque()
    for group in groups:
        waiting.append(pool.submit(_section, group, skipped))
        if len(waiting) > _GROUPS_AHEAD and (section := waiting.popleft().result()):
            yield section
    while waiting:
        if section := waiting.popleft().result():
            yield section


def _section(group: list[LocalCandidate], skipped: list[str]) -> Section | None:
    files = []
    kind = group[0].kind
    for candidate in group:
        try:
            data = _read(candidate.file.path)
            header = check_entry(data, candidate.name)
        except FileNotFoundError:
            continue
        except (OSError, CorruptError) as error:
            skipped.append(f"{candidate.name}: {error}")
            continue
        if header.kind is not kind or len(data) > PACK_MAX - table_size(1):
            continue  # it was rewritten meanwhile; the next push takes it
        if not header.self_contained:
            skipped.append(
                f"{candidate.name}: its files lie beside it (file_clone or hard_link), which is not supported"
            )
            continue
        files.append((candidate.name, data, candidate.file.mtime))
    return make_section(kind, files) if files else None


def packs_of(sections: Iterator[Section]) -> Iterator[list[Section]]:
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


def fill(space: Namespace, sections: Sequence[Section]) -> tuple[bytes, list[Entry]]:
    """Make a pack of sections; return its bytes and where each entry lies in it."""
    data, refs = assemble(sections)
    pack = pack_ref(data, space.nonce)
    return data, [Entry(slot, ref, pack) for section, ref in zip(sections, refs, strict=True) for slot in section.slots]


def _send(space: Namespace, data: bytes, entries: list[Entry], progress: Progress | None) -> list[Entry]:
    space.create(space.object("packs", entries[0].pack.name), data)
    if progress:
        progress.advance(sum(entry.slot.size for entry in entries))
    return entries


def _send_bare(
    space: Namespace, candidate: LocalCandidate, skipped: list[str], progress: Progress | None
) -> list[Entry]:
    sent = send_bare(space, candidate.name, candidate.file)
    if isinstance(sent, str):
        skipped.append(sent)
    if progress:
        progress.advance(candidate.file.size)
    return [sent] if isinstance(sent, Entry) else []


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(fd).st_size
        data = os.read(fd, size + 1)
        while len(data) < size:  # a signal, or a very large file
            more = os.read(fd, size - len(data))
            if not more:
                break
            data += more
        return data
    finally:
        os.close(fd)
