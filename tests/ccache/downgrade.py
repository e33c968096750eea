"""Heads of this version, written as the version before would have: packs and segments are the same in both."""

from __future__ import annotations

from imagetiers.ccache.format.head import NamespaceState, decode_bits, decode_head
from imagetiers.ccache.namespace import Namespace
from imagetiers.stores.port import Store
from tests.ccache import format_1


def write_as_format_1(store: Store, namespace: str) -> int:
    """Rewrite the head of a namespace in format 1; return the sequence of its state. Nobody else may be at work."""
    space = Namespace(store, namespace)
    head = decode_head(store.read(space.object("head"))[0])

    def old(state: NamespaceState) -> format_1.State:
        whole = space.with_uses(state)
        uses = {
            key: format_1.Use(use.at, use.count, use.bytes, _old_bits(use.bits, whole.entries), use.fingerprint)
            for key, use in whole.uses.items()
        }
        segments = tuple(format_1.SegmentRef(ref.object, ref.entries) for ref in state.segments)
        return format_1.State(state.sequence, state.written, state.writer, state.reason, segments, uses)

    made = format_1.Head(old(head.state), head.parent, tuple(map(old, head.history)), space.retired(head))
    store.write(space.object("head"), format_1.encode_head(made))
    return head.state.sequence


def _old_bits(bits: str, rows: int) -> str:
    number = decode_bits(bits, rows)
    return format_1.encode_bits([bool(number >> row & 1) for row in range(rows)])
