"""Remove a namespace of which nothing is left: branches and ccache's versions come and go, and each leaves a head."""

from __future__ import annotations

from imagetiers.ccache.namespace import Namespace
from imagetiers.errors import PreconditionError
from imagetiers.stores.port import Store

__all__ = ["remove_if_empty"]

_EMPTY = frozenset({"head", "clock"})


def remove_if_empty(store: Store, namespace: str) -> bool:
    """Remove the head of a namespace that has no entries, no earlier state and no other object; say whether it is gone.

    A push that runs meanwhile finds that the head has changed, and makes a new one. Raises StoreError.
    """
    space = Namespace(store, namespace)
    loaded = space.load()
    head = loaded.view.head
    nothing = not (head.state.segments or head.history or head.notes or loaded.lost)
    listing = space.listing().keys()
    if not nothing or not listing or listing - _EMPTY:
        return False
    try:
        if loaded.generation:
            store.delete(space.object("head"), if_generation=loaded.generation)
    except PreconditionError:
        return False
    store.delete(space.object("clock"))  # it decides nothing: a push that has just begun may write it again
    return True
