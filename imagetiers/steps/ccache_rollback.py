"""Rollback: make an earlier state of a namespace the current one; rebuild: find a damaged head's state again."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace

from imagetiers.ccache.head import HISTORY_MAX, Head, SegmentRef, State, encode_head
from imagetiers.ccache.index import decode_segment
from imagetiers.ccache.pack import PackRef
from imagetiers.errors import CorruptError, NotFoundError
from imagetiers.ports import Store
from imagetiers.steps.ccache_space import Loaded, Next, Space

__all__ = ["RollbackResult", "rebuild", "rollback"]


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """The state that is current again, the number that it had, its new number, and how many entries it lists."""

    restored: int
    sequence: int
    entries: int
    skipped: tuple[str, ...] = ()


def rollback(store: Store, namespace: str, *, to: int | None = None) -> RollbackResult:
    """Go back to the state numbered `to`, or to the one before the current. Nothing is lost: this, too, can be undone.

    Raises NotFoundError when the head keeps no such state, CorruptError when its index is damaged, StoreError.
    """
    space = Space(store, namespace)
    target = State()

    def change(current: Loaded) -> Next:
        nonlocal target
        history = current.view.head.history
        known = [state for state in history if to is None or state.sequence == to]
        if not known:
            numbers = ", ".join(str(state.sequence) for state in history) or "none"
            what = "there is no earlier state" if to is None else f"there is no state {to}"
            raise NotFoundError.of(space.object("head"), what, f"states that can be gone back to: {numbers}")
        target = known[-1]
        lost: list[str] = []
        rows = space.rows(target, lost)
        if lost:
            raise CorruptError.of(lost[0], f"state {target.sequence} lists a segment that is missing or damaged")
        state = replace(target, written=time.time(), reason=f"rollback to {target.sequence}")
        # All of it, also a checkpoint, which a push would let go: going back must never be a way to lose something.
        kept = (*history, current.view.head.state)[-HISTORY_MAX:]
        return Next(state, rows, history=kept)

    after = space.commit(space.load(), change)
    return RollbackResult(target.sequence, after.view.head.state.sequence, len(after.view.live))


def rebuild(store: Store, namespace: str) -> RollbackResult:
    """Write a new head over a damaged one, from all index segments that are intact, oldest first.

    Working sets and history are lost: the next pull restores everything, the next good run records its set again.
    Raises PreconditionError when somebody else wrote the head meanwhile, StoreError.
    """
    space = Space(store, namespace)
    head = store.stat(space.object("head"))
    refs, skipped = [], []
    entries: set[str] = set()
    for blob in sorted(store.list(space.object("index") + "/"), key=lambda blob: (blob.updated, blob.name)):
        name = blob.name.rpartition("/")[2]
        try:
            ref = PackRef(name, blob.size)
            data, _ = store.read(blob.name)
            if hashlib.sha256(data).hexdigest() != ref.sha256:
                raise CorruptError.of(blob.name, "the index segment is not what its name says")
            rows = decode_segment(data, blob.name)
        except (CorruptError, NotFoundError):
            skipped.append(blob.name)
            continue
        refs.append(SegmentRef(ref, len(rows)))
        entries.update(entry.name for entry in rows)
    sequence = (head.generation if head else 0) or 1
    state = State(sequence, time.time(), space.nonce, "rebuild", tuple(refs))
    store.write(space.object("head"), encode_head(Head(state)), if_generation=head.generation if head else 0)
    return RollbackResult(0, sequence, len(entries), tuple(skipped))
