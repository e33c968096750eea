"""The tasks `ccache:<verb>`: the compiler cache, looked at and kept in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import Problem
from imagetiers.tasks.invocation import Act
from imagetiers.tasks.options import form, number, option, size, string, switch, where_called

__all__ = ["ccache_tasks"]

Task = dict[str, Any]
_MOST = 1_000
_SHORTEST = 4

Wrong = Callable[[Mapping[str, Any], list[str]], list[Problem]]


def ccache_tasks(act: Act) -> Iterator[Task]:
    """Yield the tasks; `act` runs their work in a session and turns failures into texts.

    Tasks of their own and no group: `doit ccache` would prune and roll back.
    """

    def pull(namespace: str, all: bool) -> TaskFailed | None:  # noqa: A002, FBT001  doit passes options so, by their names
        from imagetiers.operations import ccache as ccache_verbs

        return act(lambda session: ccache_verbs.pull_all(session, namespace=namespace, everything=all))

    def push() -> TaskFailed | None:
        from imagetiers.operations import ccache as ccache_verbs

        return act(ccache_verbs.push_all)

    def prune(  # doit passes options so, by their names
        namespace: str,
        dry_run: bool,  # noqa: FBT001
        days: int,
        max_size: int | None,
        accept_loss: bool,  # noqa: FBT001
    ) -> TaskFailed | None:
        from imagetiers.ccache.prune import PruneOptions
        from imagetiers.operations import ccache as ccache_verbs

        options = PruneOptions(max_age=days * 86_400.0, max_bytes=max_size)
        return act(
            lambda session: ccache_verbs.prune_all(
                session, namespace=namespace, options=options, dry_run=dry_run, accept_loss=accept_loss
            )
        )

    def rollback(
        namespace: str,
        to: int | None,
        rebuild: bool,  # noqa: FBT001
        accept_loss: bool,  # noqa: FBT001
        accept_unsigned: bool,  # noqa: FBT001
    ) -> TaskFailed | None:
        from imagetiers.operations import ccache as ccache_verbs

        return act(
            lambda session: ccache_verbs.rollback_one(
                session,
                namespace=namespace,
                to=to,
                from_index=rebuild,
                accept_loss=accept_loss,
                accept_unsigned=accept_unsigned,
            )
        )

    def verify(namespace: str, drop_bad: bool, accept_loss: bool, repair: bool) -> TaskFailed | None:  # noqa: FBT001
        from imagetiers.operations import ccache as ccache_verbs

        return act(
            lambda session: ccache_verbs.verify_all(
                session,
                namespace=namespace,
                drop_bad=drop_bad,
                accept_loss=accept_loss,
                repair=repair,
            )
        )

    loss = switch("accept-loss", "give up what the index lists and cannot be read")
    named = string("names none", "doit ccache:ls lists them; without --namespace all are meant")
    space = option("namespace", "only this namespace", named, default="")
    yield from _looking_tasks(act)
    yield _task(pull, "restore working sets from the cache", space, switch("all", "everything"))
    yield _task(push, "store what the cache does not have")
    yield _task(
        prune,
        "drop what was not used for long",
        space,
        switch("dry-run", "only say what would be done"),
        option("days", "keep what was used in so many days", number(0), default=30),
        option("max-size", "keep at most so much, such as 20G", size, default=None),
        loss,
    )
    yield _task(
        rollback,
        "go back to an earlier state",
        space,
        option("to", "the state's number; default: the one before", number(1), default=None),
        switch("rebuild", "write a damaged head anew from the index"),
        loss,
        switch("accept-unsigned", "with --rebuild where signatures are required: sign what nobody may have signed"),
    )
    yield _task(
        verify,
        "re-hash everything",
        space,
        switch("drop-bad", "stop listing what is bad"),
        loss,
        switch("repair", "store again what is bad and lies in this machine's ccache directories"),
    )


def _task(action: Callable[..., TaskFailed | None], doc: str, *params: Task) -> Task:
    return {
        "basename": f"ccache:{action.__name__}",
        "doc": doc,
        "params": list(params),
        "actions": [action],
        "meta": {"quiet": True},
    }


def _json_option(schema: str) -> Task:
    what = f"write it to this file (- = stdout; {schema})"
    return option("json", what, string("names no file", "a path, or - for the standard output"), default="")


def _looking_tasks(act: Act) -> Iterator[dict[str, Any]]:
    """Yield those that only look: what lies in the compiler cache, down to an entry."""

    def stats(namespace: str, json: str) -> TaskFailed | None:
        from imagetiers.operations.ccache_stats import show_stats

        return act(lambda session: show_stats(session, namespace=namespace, to=where_called(json)))

    def ls(sort: str, limit: int, json: str, namespaces: list[str]) -> TaskFailed | None:
        from imagetiers.ccache.entries import Order
        from imagetiers.operations.ccache_ls import Listing, list_cache

        listing = Listing(Order(sort), limit, where_called(json))
        return act(lambda session: list_cache(session, "".join(namespaces), listing))

    def show(namespace: str, files: bool, entries: list[str]) -> TaskFailed | None:  # noqa: FBT001  doit passes options so
        from imagetiers.operations.ccache_show import show_entry

        return act(lambda session: show_entry(session, entries[0], namespace=namespace, every_file=files))

    named = string("names none", "doit ccache:ls lists them; without --namespace all are meant")
    yield {
        "basename": "ccache:stats",
        "actions": [stats],
        "doc": "show what the cache holds (--json FILE)",
        "params": [
            option("namespace", "only this namespace", named, default=""),
            _json_option("schemas/ccache-stats.schema.json"),
        ],
        "meta": {"quiet": True},
    }
    yield {
        "basename": "ccache:ls",
        "actions": [ls],
        "doc": "list the cache's namespaces, or the entries of one: doit ccache:ls [NAMESPACE]",
        "pos_arg": "namespaces",
        "params": [
            option(
                "sort",
                "what comes first: used (the last that were), created, size or name",
                form("used|created|size|name", "is no order", "used, created, size or name"),
                default="used",
            ),
            option("limit", f"at most so many, up to {_MOST:,}", number(1, _MOST), default=50),
            _json_option("schemas/ccache.schema.json"),
        ],
        "meta": {"quiet": True, "wrong": _not_one_namespace},
    }
    yield {
        "basename": "ccache:show",
        "actions": [show],
        "doc": "show what an entry of the cache is, and what it holds: doit ccache:show ENTRY",
        "pos_arg": "entries",
        "params": [
            option("namespace", "look in this namespace alone", named, default=""),
            switch("files", "of a manifest, every file that its newest result has read"),
        ],
        "meta": {"quiet": True, "wrong": _not_one_entry},
    }


def _not_one_namespace(_options: Mapping[str, Any], names: list[str]) -> list[Problem]:
    where, hint = "doit ccache:ls", "doit ccache:ls [--sort size] [--limit 100] [NAMESPACE]"
    if late := _late_option(where, names, hint):
        return late
    what = f"lists one namespace, and was given {len(names)}"
    return [] if len(names) <= 1 else [Problem(where, what, hint)]


def _not_one_entry(_options: Mapping[str, Any], names: list[str]) -> list[Problem]:
    where, hint = "doit ccache:show", "doit ccache:show [--files] ENTRY: its name, or how that begins; doit ccache:ls"
    if late := _late_option(where, names, hint):
        return late
    if len(names) != 1:
        return [Problem(where, f"takes one entry, and was given {len(names)}", hint)]
    if len(names[0]) < _SHORTEST or not names[0].isalnum():
        return [Problem(where, f"'{names[0][:60]}' is no beginning of an entry's name", hint)]
    return []


def _late_option(where: str, words: list[str], hint: str) -> list[Problem]:
    late = next((word for word in words if word.startswith("-")), None)
    return [] if late is None else [Problem(where, f"{late[:60]} stands too late: options come first", hint)]
