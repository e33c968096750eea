"""The tasks `ccache:stats`, `ccache:ls` and `ccache:show`: what lies in the compiler cache, down to an entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import Problem
from imagetiers.tasks.act import Act
from imagetiers.tasks.options import form, number, option, string, switch, where_called

__all__ = ["ccache_looking_tasks"]

_MOST = 1_000
_SHORTEST = 4

Wrong = Callable[[Mapping[str, Any], list[str]], list[Problem]]


def ccache_looking_tasks(act: Act) -> Iterator[dict[str, Any]]:
    """Yield the tasks; `act` runs their work in a session and turns failures into texts."""

    def stats(namespace: str) -> TaskFailed | None:
        from imagetiers.operations.ccache_stats import show_stats

        return act(lambda session: show_stats(session, namespace=namespace))

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
        "doc": "show what the cache holds",
        "params": [option("namespace", "only this namespace", named, default="")],
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
            option(
                "json",
                "write it to this file (- = stdout; schemas/ccache.schema.json)",
                string("names no file", "a path, or - for the standard output"),
                default="",
            ),
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
