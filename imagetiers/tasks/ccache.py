"""The tasks `ccache:<verb>`: housekeeping of the compiler cache; `ccache_looking` has those that only look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.tasks.act import Act
from imagetiers.tasks.options import number, option, size, string, switch

__all__ = ["ccache_tasks"]

Task = dict[str, Any]


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
