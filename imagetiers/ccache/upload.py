"""Read and check entry files, pack by pack, and upload each pack as soon as it is full.

Memory: at most `threads` packs, from when they are made until they are uploaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.pack import BARE_MIN, PackRef
from imagetiers.ccache.large_entry import send_bare
from imagetiers.ccache.local import Look
from imagetiers.ccache.namespace import Namespace
from imagetiers.ccache.packing import ROOM, LocalCandidate, Pack
from imagetiers.ccache.workers import Workers
from imagetiers.stores.port import Progress

__all__ = ["UploadStats", "upload"]


@dataclass(frozen=True, slots=True)
class UploadStats:
    """Packs and bytes uploaded, and the files of the manifests in them."""

    packs: int
    stored: int
    manifests: tuple[Look, ...] = ()


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
    small = [candidate for candidate in ordered if candidate.file.size <= BARE_MIN]
    with (
        Workers(len(small), threads) as workers,
        ThreadPoolExecutor(threads, "ccache-upload") as senders,
    ):
        sent = [
            senders.submit(_send_bare, space, candidate, skipped, progress)
            for candidate in ordered
            if candidate.file.size > BARE_MIN
        ]
        sent += [senders.submit(_send, space, pack, workers, skipped, progress) for pack in _packs(small)]
        try:
            done = [future.result() for future in sent]
        except BaseException:
            senders.shutdown(wait=False, cancel_futures=True)
            raise
    stored = [entry for entries, _ in done for entry in entries]
    packs = {entry.pack for entry in stored}
    manifests = tuple(look for _, looks in done for look in looks)
    return stored, UploadStats(len(packs), sum(pack.size for pack in packs), manifests)


def _packs(candidates: Iterable[LocalCandidate]) -> Iterator[Pack]:
    """Fill packs in order."""
    files: list[LocalCandidate] = []
    held = 0
    for candidate in candidates:
        size = candidate.file.size
        if files and held + size > ROOM:
            yield Pack(tuple(files))
            files, held = [], 0
        files.append(candidate)
        held += size
    if files:
        yield Pack(tuple(files))


_Sent = tuple[list[Entry], tuple[Look, ...]]


def _send(space: Namespace, pack: Pack, workers: Workers, skipped: list[str], progress: Progress | None) -> _Sent:
    with workers.room() as room:
        packed = workers.do(pack, room)
        skipped += packed.skipped
        if not packed.size:
            return [], ()
        ref = PackRef(f"{packed.sha256}-{space.nonce}", packed.size)
        space.create(space.object("packs", ref.name), room.memory[packed.start : packed.start + packed.size])
    entries = [Entry(slot, section, ref) for slot, section in packed.slots()]
    if progress:
        progress.advance(sum(entry.slot.size for entry in entries))
    return entries, packed.manifests


def _send_bare(space: Namespace, candidate: LocalCandidate, skipped: list[str], progress: Progress | None) -> _Sent:
    sent = send_bare(space, candidate.name, candidate.file)
    if isinstance(sent, str):
        skipped.append(sent)
    if progress:
        progress.advance(candidate.file.size)
    return [sent] if isinstance(sent, Entry) else [], ()
