"""doit ccache:VERB: the cache's housekeeping for people, over all namespaces of this pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from imagetiers.building.ccache_session import MAIN, BarProgress
from imagetiers.ccache.apart import Report, apart
from imagetiers.ccache.format.head import Use
from imagetiers.ccache.listing import draw, stored_namespaces
from imagetiers.ccache.namespace import is_namespace
from imagetiers.ccache.prune import PruneOptions, prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.ccache.remove import remove_if_empty
from imagetiers.ccache.rollback import rebuild, rollback
from imagetiers.ccache.stats import stats
from imagetiers.ccache.verify import verify
from imagetiers.errors import Problem, StoreError, UntrustedError
from imagetiers.report.amounts import age_text, size_text
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.stores.port import BucketSettings, Progress, Store

__all__ = ["prune_all", "pull_all", "push_all", "rollback_one", "show_stats", "verify_all"]

_OTHERS_MAX = 1_000
"""Most namespaces of others that one run looks after: whoever may write one may write a million of them."""

_STRANGE_SHOWN = 5


def _own(session: Session) -> str:
    return f"{session.trust.level}.{session.trust.branch}."


def _stored(session: Session, only: str) -> list[str]:
    """Return this pipeline's namespaces in the store; of others' at most `_OTHERS_MAX`.

    Raises StoreError, also when `only` is not one of them.
    """
    missing = Problem(session.services.store.url, f"holds no namespace {only}", "doit ccache:stats lists them")
    if only and not is_namespace(only):
        raise StoreError(missing)
    own: list[str] = []

    def of_others() -> Iterator[str]:
        for found in stored_namespaces(session.services.store, only):
            if f".{session.plan.pipeline.name}." not in found.name:
                continue
            if _is_of_others(session, found.name):
                yield found.name
            else:
                own.append(found.name)

    others, count = draw(of_others(), _OTHERS_MAX)
    if count > len(others):
        what = f"{count:,} namespaces of others: {len(others):,} of them, drawn by lot, have their turn now"
        session.services.console.line(what)
    names = sorted((*own, *others))
    strange = [name for name in names if not is_namespace(name)]
    for name in strange[:_STRANGE_SHOWN]:
        session.services.console.line(f"{name[:100]!a}: left alone, for it is no namespace")
    if len(strange) > _STRANGE_SHOWN:
        session.services.console.line(f"and {len(strange) - _STRANGE_SHOWN} more that are none")
    if only and not names:
        raise StoreError(missing)
    return [name for name in names if is_namespace(name)]


def _writable(session: Session, only: str) -> Iterator[str]:
    """Yield the namespaces that this build may change: an untrusted one only its own."""
    for name in _stored(session, only):
        if session.trust.trusted or name.startswith(_own(session)):
            yield name
        else:
            session.services.console.line(f"{name}: left alone, for this build is untrusted")


def _is_of_others(session: Session, name: str) -> bool:
    """Say whether a namespace was written by builds that this one does not trust."""
    return not name.startswith(("trusted.", _own(session)))


def _each(names: Iterator[str] | list[str], services: Services, work: Callable[[str], object]) -> None:
    """Do the same to each namespace; one that fails does not keep the others from it. Raises StoreError at the end."""
    problems: list[Problem] = []
    some = False
    for name in names:
        some = True
        try:
            services.console.line(f"{name}: {work(name)}")
        except StoreError as error:
            problems += error.problems
    StoreError.raise_if(problems)
    if not some:
        services.console.line(f"{services.store.url} holds no ccache of this pipeline yet: a compile puts it there")


def _report(session: Session, name: str, work: Callable[[], Report]) -> Report:
    """Do it here, or, to a namespace of others, in a process of its own."""
    return apart(name, work) if _is_of_others(session, name) else work()


def pull_all(session: Session, *, namespace: str, everything: bool) -> None:
    """Restore the working sets (or everything) of what main and this branch have stored. Raises StoreError."""
    main, own = f"trusted.{MAIN}.", _own(session)
    lines = {
        name.removeprefix(prefix)
        for name in _stored(session, namespace)
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

    _each(sorted(lines), session.services, one)


def push_all(session: Session) -> None:
    """Push what this machine's ccache directories hold and the store does not. Raises StoreError."""
    root = session.layout.ccache("x").parent
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []

    def one(name: str) -> object:
        with session.services.console.progress(f"ccache:push {name}") as bar:
            return push(
                session.services.store, name, session.layout.ccache(name), step="by-hand", progress=BarProgress(bar)
            )

    _each([name for name in names if name.startswith(_own(session))], session.services, one)


def show_stats(session: Session, *, namespace: str) -> None:
    """Print what each namespace holds. Raises StoreError."""

    def one(name: str) -> object:
        return _report(session, name, partial(stats_report, session.services.store, name, session.services.now())).text

    _each(_stored(session, namespace), session.services, one)
    settings = session.services.bucket_settings()
    if settings is not None:
        session.services.console.line("\n".join([f"bucket of {session.services.store.url}:", *bucket_lines(settings)]))


def stats_report(store: Store, name: str, now: float) -> Report:
    """Say what a namespace holds. Raises StoreError."""
    found = stats(store, name)
    lines = [
        f"state {found.sequence} ({found.reason or 'empty'}), {age_text(now - found.written)} old",
        f"{found.results} results, {found.manifests} manifests; {size_text(found.entry_bytes)} as files",
        f"{found.packs} packs of {size_text(found.pack_bytes)}, of which {size_text(found.live_bytes)} are live",
        f"{found.other_objects} other objects ({size_text(found.other_bytes)}), {found.retired} on their way out",
    ]
    lines += [_use(step, how, use, now) for (step, how), use in sorted(found.uses.items())]
    lines += [
        f"can go back to state {number} ({reason}), {age_text(now - at)} old" for number, at, reason in found.history
    ]
    lines += [f"lost: {lost}" for lost in found.lost]
    return Report("\n  ".join(lines))


def bucket_lines(settings: BucketSettings) -> list[str]:
    """Say which of a bucket's own settings cost money or break a cache, and the commands that mend them.

    Soft delete keeps, and bills, everything that is replaced or deleted for its duration; a lifecycle rule that deletes by
    age deletes packs that are still referred to (docs/cache-format.md).
    """
    lines = []
    if settings.soft_delete:
        lines.append(
            f"  soft delete keeps what is deleted for {age_text(settings.soft_delete)}, billed:"
            " gcloud storage buckets update gs://BUCKET --clear-soft-delete"
        )
    if settings.versioning:
        lines.append(
            "  versioning keeps every old head, billed: gcloud storage buckets update gs://BUCKET --no-versioning"
        )
    if not settings.uniform_access:
        lines.append(
            "  objects have access lists: gcloud storage buckets update gs://BUCKET --uniform-bucket-level-access"
        )
    for rule in settings.lifecycle:
        parsed = json.loads(rule)
        prefixes = parsed.get("condition", {}).get("matchesPrefix") or [""]
        deletes = parsed.get("action", {}).get("type") == "Delete"
        if deletes and not all("untrusted/" in prefix for prefix in prefixes):
            lines.append(f"  a lifecycle rule deletes what may still be in use: {rule}")
    return lines or ["  its settings are right for a cache"]


def _use(step: str, how: str, use: Use, now: float) -> str:
    which = "earlier good" if how == "before" else how
    return f"{which} run of {step}: {use.count} entries, {size_text(use.bytes)}, {age_text(now - use.at)} ago"


def prune_all(session: Session, *, namespace: str, options: PruneOptions, dry_run: bool, accept_loss: bool) -> None:
    """Drop what was not used for long, compact, delete what nothing refers to any more. Raises StoreError."""

    def one(name: str) -> object:
        work = partial(prune_report, session.services.store, name, options, dry_run=dry_run, accept_loss=accept_loss)
        return _report(session, name, work).text

    _each(_writable(session, namespace), session.services, one)


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
        if _is_of_others(session, name):
            found = apart(name, work)
        else:
            with session.services.console.progress(f"ccache:verify {name}") as bar:
                found = work(progress=BarProgress(bar))
        bad.extend(Problem(name, line, hint) for line in found.bad)
        return found.text

    changes = drop_bad or repair
    _each(_writable(session, namespace) if changes else _stored(session, namespace), session.services, one)
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
    names = list(_writable(session, namespace))
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
        return _report(session, name, work).text

    _each(names, session.services, one)


def rollback_report(store: Store, name: str, *, to: int | None, from_index: bool, accept_loss: bool) -> Report:
    """Roll a namespace back, or rebuild its head, and say what was done. Raises StoreError."""
    done = rebuild(store, name, accept_loss=accept_loss) if from_index else rollback(store, name, to=to)
    what = "its index" if from_index else f"state {done.restored}"
    skipped = "".join(f"\n  left out: {line}" for line in done.skipped)
    return Report(f"holds {done.entries} entries again, as of {what}; now state {done.sequence}{skipped}")
