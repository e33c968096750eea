"""doit ccache:VERB: the cache's housekeeping for people, over all namespaces of this pipeline."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from imagetiers.building.ccache_session import MAIN, BarProgress
from imagetiers.ccache.apart import Report
from imagetiers.ccache.prune import PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.remove import remove_if_empty
from imagetiers.ccache.rollback import rebuild, rollback
from imagetiers.ccache.verify import verify
from imagetiers.errors import Problem, StoreError, UntrustedError
from imagetiers.operations.ccache_namespaces import (
    each_namespace,
    own_prefix,
    report_on,
    stored_names,
    writable_names,
)
from imagetiers.report.amounts import size_text
from imagetiers.session import Session
from imagetiers.stores.port import Progress, Store

__all__ = ["prune_all", "pull_all", "push_all", "rollback_one", "verify_all"]


def pull_all(session: Session, *, namespace: str, everything: bool) -> None:
    """Restore the working sets (or everything) of what main and this branch have stored. Raises StoreError."""
    main, own = f"trusted.{MAIN}.", own_prefix(session)
    lines = {
        name.removeprefix(prefix)
        for name in stored_names(session, namespace)
        for prefix in (own, main)
        if name.startswith(prefix)
    }

    def one(line: str) -> object:
        chain = (own + line,) if own == main else (own + line, main + line)
        with session.services.console.progress(f"ccache:pull {line}") as bar:
            return pull(
                session.services.store,
                chain,
                session.layout.ccache(chain[0]),
                everything=everything,
                progress=BarProgress(bar),
            )

    each_namespace(sorted(lines), session.services, one)


def push_all(session: Session) -> None:
    """Push what this machine's ccache directories hold and the store does not. Raises StoreError."""
    root = session.layout.ccache("x").parent
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []

    def one(name: str) -> object:
        with session.services.console.progress(f"ccache:push {name}") as bar:
            return push(
                session.services.store, name, session.layout.ccache(name), step="by-hand", progress=BarProgress(bar)
            )

    each_namespace([name for name in names if name.startswith(own_prefix(session))], session.services, one)


def prune_all(session: Session, *, namespace: str, options: PruneOptions, dry_run: bool, accept_loss: bool) -> None:
    """Drop what was not used for long, compact, delete what nothing refers to any more. Raises StoreError."""

    def one(name: str) -> object:
        work = partial(prune_report, session.services.store, name, options, dry_run=dry_run, accept_loss=accept_loss)
        return report_on(session, name, work).text

    each_namespace(writable_names(session, namespace), session.services, one)


def prune_report(store: Store, name: str, options: PruneOptions, *, dry_run: bool, accept_loss: bool) -> Report:
    """Prune a namespace and say what was done. Raises StoreError."""
    text = str(prune(store, name, options, dry_run=dry_run, accept_loss=accept_loss))
    if not dry_run and remove_if_empty(store, name):
        text += "\n  removed, for nothing was left of it"
    return Report(text)


def verify_all(session: Session, *, namespace: str, drop_bad: bool, accept_loss: bool, repair: bool) -> None:
    """Read and re-hash everything; `repair`: store again what is bad and lies here. Raises StoreError naming what is bad."""
    bad: list[Problem] = []
    hint = (
        "no longer listed: the next build that has it pushes it again"
        if drop_bad
        else "doit ccache:verify --repair on a machine that has it, or --drop-bad"
    )

    def one(name: str) -> object:
        directory = session.layout.ccache(name) if repair and session.layout.ccache(name).is_dir() else None
        work = partial(
            verify_report, session.services.store, name, directory, drop_bad=drop_bad, accept_loss=accept_loss
        )

        def here() -> Report:
            with session.services.console.progress(f"ccache:verify {name}") as bar:
                return work(progress=BarProgress(bar))

        found = report_on(session, name, work, here)
        bad.extend(Problem(name, line, hint) for line in found.bad)
        return found.text

    changes = drop_bad or repair
    each_namespace(
        writable_names(session, namespace) if changes else stored_names(session, namespace), session.services, one
    )
    StoreError.raise_if(bad)


def verify_report(
    store: Store,
    name: str,
    directory: Path | None,
    *,
    drop_bad: bool,
    accept_loss: bool,
    progress: Progress | None = None,
) -> Report:
    """Verify a namespace and say what was found. Raises StoreError."""
    found = verify(store, name, drop_bad=drop_bad, accept_loss=accept_loss, directory=directory, progress=progress)
    repaired = f", {found.repaired} stored again from this machine" if found.repaired else ""
    size = size_text(found.bytes)
    text = f"{found.entries} entries in {found.packs} packs, {size}: {len(found.bad)} bad{repaired}"
    return Report(text, found.bad)


def rollback_one(
    session: Session, *, namespace: str, to: int | None, from_index: bool, accept_loss: bool, accept_unsigned: bool
) -> None:
    """Go back to an earlier state, or write a new head from the index.

    Where signatures are required, the second needs `accept_unsigned`: the new head vouches for index segments that no
    signed head may ever have named. Raises UntrustedError, StoreError.
    """
    names = list(writable_names(session, namespace))
    if len(names) > 1:
        raise StoreError(Problem("ccache:rollback", "which namespace?", f"--namespace one of: {', '.join(names)}"))
    if from_index and not accept_unsigned and session.plan.pipeline.trust.require and session.trust.trusted:
        what = "the new head would be signed, and name whatever whoever writes the cache has put into its index"
        hint = (
            "without --rebuild, go back to a state that was signed; --accept-unsigned signs what is there all the same"
        )
        raise UntrustedError(Problem("ccache:rollback --rebuild", what, hint))

    def one(name: str) -> object:
        work = partial(
            rollback_report, session.services.store, name, to=to, from_index=from_index, accept_loss=accept_loss
        )
        return report_on(session, name, work).text

    each_namespace(names, session.services, one)


def rollback_report(store: Store, name: str, *, to: int | None, from_index: bool, accept_loss: bool) -> Report:
    """Roll a namespace back, or rebuild its head, and say what was done. Raises StoreError."""
    done = rebuild(store, name, accept_loss=accept_loss) if from_index else rollback(store, name, to=to)
    what = "its index" if from_index else f"state {done.restored}"
    skipped = "".join(f"\n  left out: {line}" for line in done.skipped)
    return Report(f"holds {done.entries} entries again, as of {what}; now state {done.sequence}{skipped}")
