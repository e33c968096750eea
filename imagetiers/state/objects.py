"""What the cache keeps of the objects of a line of compiles: their seconds and their memory (`planning.objects`)."""

from __future__ import annotations

from collections.abc import Callable

from imagetiers.errors import NotFoundError, PreconditionError, StoreError
from imagetiers.planning.objects import KnownObjects
from imagetiers.planning.plan import CompilePlan
from imagetiers.session import Session

__all__ = ["keep_objects", "known_objects"]

_TRIES = 4


def known_objects(session: Session, step: CompilePlan) -> KnownObjects:
    """Return what is known: by this build's own line of work, otherwise by trusted builds. No cache fails a compile."""
    for prefix in dict.fromkeys((session.trust.prefix, "")):
        try:
            return KnownObjects.decode(session.services.store.read(f"{prefix}{_name(step)}")[0])
        except NotFoundError:
            continue
        except StoreError as error:
            session.services.console.line(f"compile:{step.tier}: nothing is known of its objects: {error}")
            break
    return KnownObjects()


def keep_objects(
    session: Session, step: CompilePlan, before: KnownObjects, change: Callable[[KnownObjects], KnownObjects]
) -> None:
    """Write what a compile has taught. Another's that came first is read again, and changed as well.

    `before` is what an untrusted build begins with when it has none of its own.
    """
    name = session.trust.prefix + _name(step)
    for _ in range(_TRIES):
        try:
            try:
                data, generation = session.services.store.read(name)
                found = KnownObjects.decode(data)
            except NotFoundError:
                found, generation = before, 0
            session.services.store.write(name, change(found).encode(), if_generation=generation)
        except PreconditionError:
            continue
        except StoreError as error:
            session.services.console.line(f"compile:{step.tier}: what its objects took was not kept: {error}")
        return


def _name(step: CompilePlan) -> str:
    return f"objects/{step.namespace}.json"
