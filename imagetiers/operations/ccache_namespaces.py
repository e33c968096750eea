"""Which namespaces of the store `doit ccache:VERB` looks at, and how: those of others in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from imagetiers.ccache.apart import Report, apart
from imagetiers.ccache.listing import StoredNamespace, draw, stored_namespaces
from imagetiers.ccache.namespace import is_namespace
from imagetiers.errors import Problem, StoreError
from imagetiers.services import Services
from imagetiers.session import Session

__all__ = ["each_namespace", "is_of_others", "own_prefix", "report_on", "stored", "stored_names", "writable_names"]

_OTHERS_MAX = 1_000
"""Most namespaces of others that one run looks after: whoever may write one may write a million of them."""

_STRANGE_SHOWN = 5


def own_prefix(session: Session) -> str:
    """Return what the names of the namespaces begin with that this build writes."""
    return f"{session.trust.level}.{session.trust.branch}."


def stored_names(session: Session, only: str) -> list[str]:
    """Return the names of this pipeline's namespaces in the store, as `stored` does."""
    return [found.name for found in stored(session, only)]


def stored(session: Session, only: str) -> list[StoredNamespace]:
    """Return this pipeline's namespaces in the store, in order of name; of others' at most `_OTHERS_MAX`.

    Raises StoreError, also when `only` is not one of them.
    """
    missing = Problem(session.services.store.url, f"holds no namespace {only}", "doit ccache:ls lists them")
    if only and not is_namespace(only):
        raise StoreError(missing)
    own: list[StoredNamespace] = []

    def of_others() -> Iterator[StoredNamespace]:
        for found in stored_namespaces(session.services.store, only):
            if f".{session.plan.pipeline.name}." not in found.name:
                continue
            if is_of_others(session, found.name):
                yield found
            else:
                own.append(found)

    others, count = draw(of_others(), _OTHERS_MAX)
    if count > len(others):
        what = f"{count:,} namespaces of others: {len(others):,} of them, drawn by lot, have their turn now"
        session.services.console.line(what)
    every = sorted((*own, *others), key=lambda found: found.name)
    strange = [found.name for found in every if not is_namespace(found.name)]
    for name in strange[:_STRANGE_SHOWN]:
        session.services.console.line(f"{name[:100]!a}: left alone, for it is no namespace")
    if len(strange) > _STRANGE_SHOWN:
        session.services.console.line(f"and {len(strange) - _STRANGE_SHOWN} more that are none")
    if only and not every:
        raise StoreError(missing)
    return [found for found in every if is_namespace(found.name)]


def writable_names(session: Session, only: str) -> Iterator[str]:
    """Yield the namespaces that this build may change: an untrusted one only its own."""
    for name in stored_names(session, only):
        if session.trust.trusted or name.startswith(own_prefix(session)):
            yield name
        else:
            session.services.console.line(f"{name}: left alone, for this build is untrusted")


def is_of_others(session: Session, name: str) -> bool:
    """Say whether a namespace was written by builds that this one does not trust."""
    return not name.startswith(("trusted.", own_prefix(session)))


def each_namespace(names: Iterator[str] | list[str], services: Services, work: Callable[[str], object]) -> None:
    """Do the same to each namespace, and say what it returns, if anything.

    One that fails does not keep the others from it. Raises StoreError at the end.
    """
    problems: list[Problem] = []
    some = False
    for name in names:
        some = True
        try:
            done = work(name)
            if done is not None:
                services.console.line(f"{name}: {done}")
        except StoreError as error:
            problems += error.problems
    StoreError.raise_if(problems)
    if not some:
        services.console.line(f"{services.store.url} holds no ccache of this pipeline yet: a compile puts it there")


def report_on(
    session: Session, name: str, work: Callable[[], Report], here: Callable[[], Report] | None = None
) -> Report:
    """Do some work on a namespace: to one of others in a process of its own, otherwise by `here` where that is given.

    Raises StoreError.
    """
    return apart(name, work) if is_of_others(session, name) else (here or work)()
