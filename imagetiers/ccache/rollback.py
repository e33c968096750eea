"""Rollback: make an earlier state of a namespace the current one; rebuild: find a damaged head's state again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from imagetiers.ccache.format.head import HISTORY_MAX, Head, NamespaceState, SegmentRef, is_object_name
from imagetiers.ccache.format.index import ENTRIES_MAX, Entry
from imagetiers.ccache.format.pack import PackRef
from imagetiers.ccache.namespace import Loaded, Namespace, Next
from imagetiers.errors import CorruptError, NotFoundError, Problem
from imagetiers.stores.port import Store

_SEGMENT_MAX = 256 * 1024 * 1024

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
    space = Namespace(store, namespace)
    target = NamespaceState()

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
        whole = space.with_uses(target)
        state = replace(whole, written=space.now(), reason=f"rollback to {target.sequence}")
        # All of it, also a checkpoint, which a push would let go: going back must never be a way to lose something.
        kept = (*history, current.view.head.state)[-HISTORY_MAX:]
        return Next(state, rows, history=kept)

    # What the current state lists and cannot be read is not lost by this: the state stays in the history.
    after = space.commit(space.load(), change, accept_loss=True)
    return RollbackResult(target.sequence, after.view.head.state.sequence, len(after.view.live))


def rebuild(store: Store, namespace: str, *, accept_loss: bool = False) -> RollbackResult:
    """Write a new head over a damaged one, from all index segments that are intact, oldest first.

    Their entries go into one new segment, but for those whose packs are gone. Working sets and history are lost: the next
    pull restores everything, the next good run records its set again. An index segment that cannot be read is given up
    only with `accept_loss`; else CorruptError. Raises PreconditionError when somebody else wrote the head meanwhile,
    StoreError.
    """
    space = Namespace(store, namespace)
    head = store.stat(space.object("head"))
    listing = space.listing()
    skipped: list[str] = []
    live: dict[str, Entry] = {}
    segments = [
        (blob.updated, name, SegmentRef(PackRef(name.removeprefix("index/"), blob.size), ENTRIES_MAX))
        for name, blob in listing.items()
        if name.startswith("index/") and is_object_name(name) and 0 < blob.size <= _SEGMENT_MAX
    ]
    for _, name, ref in sorted(segments, key=lambda one: one[:2]):
        try:
            rows = space.segment(ref)
        except (CorruptError, NotFoundError):
            skipped.append(space.object(name))
            continue
        live |= {entry.name: entry for entry in rows if f"packs/{entry.pack.name}" in listing}
    if skipped and not accept_loss:
        what = "cannot be read, so nothing is written"
        hint = "try again; to give up what it lists: doit ccache:rollback --rebuild --accept-loss"
        raise CorruptError(*(Problem(name, what, hint) for name in skipped))
    sequence = (head.generation if head else 0) or 1
    refs, _ = space.write_segments(live.values())
    state = NamespaceState(sequence, space.now(), space.nonce, "rebuild", refs)
    space.replace_head(Head(state), head.generation if head else 0)
    return RollbackResult(0, sequence, len(live), tuple(skipped))
