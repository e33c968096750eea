"""ccache:ls: the namespaces of this pipeline, or the entries of one, as a table or as JSON (`schemas/ccache.schema.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from imagetiers.ccache.apart import Report
from imagetiers.ccache.entries import EntryPage, ListedEntry, Order, list_entries
from imagetiers.operations.ccache_namespaces import is_of_others, own_prefix, report_on, stored
from imagetiers.operations.outfile import write_json
from imagetiers.report.ccache import NamespaceRow, entries_table, namespaces_table
from imagetiers.session import Session
from imagetiers.stores.port import Store

__all__ = ["ENTRIES_MAX", "Listing", "list_cache", "page_report"]

ENTRIES_MAX = 1_000
"""Most entries that are listed at once: what reads a namespace of others returns a megabyte at most."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Listing:
    """How to list: what comes first, how many of them, and the JSON file (`-` = stdout) that it is written to instead."""

    order: Order = Order.USED
    most: int = 50
    to: str = ""


def list_cache(session: Session, namespace: str, listing: Listing) -> None:
    """List the namespaces, or the entries of one of them. Raises StoreError, OutputError."""
    if namespace:
        _list_entries(session, namespace, listing)
    else:
        _list_namespaces(session, listing)


def _list_namespaces(session: Session, listing: Listing) -> None:
    rows = [
        NamespaceRow(found.name, _whose(session, found.name), found.size, found.written)
        for found in stored(session, "")
    ]
    rows.sort(key=lambda row: (0, row.name) if listing.order is Order.NAME else (_rank(row, listing.order), row.name))
    shown = rows[: listing.most]
    if listing.to:
        document = {
            "format": _FORMAT,
            "store": session.services.store.url,
            "total": len(rows),
            "namespaces": [asdict(row) for row in shown],
        }
        write_json(listing.to, document)
        return
    if not rows:
        session.services.console.line(
            f"{session.services.store.url} holds no ccache of this pipeline yet: a compile puts it there"
        )
        return
    session.services.console.print(namespaces_table(shown, session.services.now()))
    _say_rest(session, len(rows) - len(shown))


def _rank(row: NamespaceRow, order: Order) -> float:
    return -row.bytes if order is Order.SIZE else -row.written


def _whose(session: Session, name: str) -> str:
    if is_of_others(session, name):
        return "others"
    return "this build" if name.startswith(own_prefix(session)) else "trusted builds"


def _list_entries(session: Session, namespace: str, listing: Listing) -> None:
    name = stored(session, namespace)[0].name
    work = partial(page_report, session.services.store, name, listing.order, listing.most)
    page = _page(json.loads(report_on(session, name, work).text))
    if listing.to:
        document = {"format": _FORMAT, "store": session.services.store.url, "namespace": name, **asdict(page)}
        write_json(listing.to, document)
        return
    session.services.console.print(entries_table(name, page.entries, session.services.now()))
    for lost in page.lost:
        session.services.console.line(f"lost: {lost}")
    _say_rest(session, page.total - len(page.entries))


def _say_rest(session: Session, more: int) -> None:
    if more:
        session.services.console.line(f"and {more:,} more: --limit shows more at once (at most {ENTRIES_MAX:,})")


def page_report(store: Store, name: str, order: Order, most: int) -> Report:
    """Return a page of entries as JSON, which is what another process can hand over. Raises StoreError."""
    return Report(json.dumps(asdict(list_entries(store, name, order, most))))


def _page(document: Mapping[str, Any]) -> EntryPage:
    entries = tuple(
        ListedEntry(**{**entry, "sets": tuple((step, outcome) for step, outcome in entry["sets"])})
        for entry in document["entries"]
    )
    return EntryPage(entries, document["total"], tuple(document["lost"]))
