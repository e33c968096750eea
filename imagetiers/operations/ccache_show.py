"""ccache:show: what one entry of the compiler cache is, where it lies, who used it last, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from imagetiers.ccache.apart import Report
from imagetiers.ccache.entries import (
    EntryContent,
    ListedEntry,
    entries_of,
    find_entries,
    read_content,
)
from imagetiers.ccache.format.index import Entry
from imagetiers.ccache.format.pack import Codec
from imagetiers.ccache.local import entry_file
from imagetiers.errors import Problem, StoreError
from imagetiers.operations.ccache_namespaces import is_of_others, report_on, stored_names
from imagetiers.report.amounts import age_text, size_text
from imagetiers.report.ccache import sets_text
from imagetiers.session import Session
from imagetiers.stores.port import Store

__all__ = ["show_entry", "show_report"]

_FILES, _RESULTS, _CHANGED, _LIKE = 20, 5, 3, 5
_PACK_SHOWN = 16


def show_entry(session: Session, prefix: str, *, namespace: str, every_file: bool) -> None:
    """Say what the entry is whose name begins so, in each namespace that this build trusts, or in the given one.

    Raises StoreError, also where no entry or more than one is meant.
    """
    store, now = session.services.store, session.services.now()
    names = [name for name in stored_names(session, namespace) if namespace or not is_of_others(session, name)]
    said = 0
    for name in names:
        work = partial(show_report, store, name, prefix, now, every_file=every_file)
        text = report_on(session, name, work).text
        if text:
            session.services.console.line(text)
            said += 1
            if (file := entry_file(session.layout.ccache(name), text.partition(" ")[0])) is not None:
                session.services.console.line(f"  here: {file}")
    if not said:
        where = namespace or f"no namespace of this pipeline that this build trusts ({len(names)} of them)"
        what = f"{where} lists no entry that begins with {prefix}" if namespace else f"{where} lists {prefix}"
        raise StoreError(Problem(store.url, what, "doit ccache:ls NAMESPACE lists the entries of one"))


def show_report(store: Store, name: str, prefix: str, now: float, *, every_file: bool) -> Report:
    """Say what a namespace's entry is whose name begins so; nothing where there is none. Raises StoreError."""
    found, view = find_entries(store, name, prefix, _LIKE + 1)
    if len(found) > 1:
        like = ", ".join(listed.name for listed, _ in found[:_LIKE]) + (", ..." if len(found) > _LIKE else "")
        raise StoreError(Problem(name, f"more than one entry begins with {prefix}", f"one of: {like}"))
    if not found:
        return Report("")
    listed, entry = found[0]
    content = read_content(store, name, entry)
    lines = [*_where_it_is(name, listed, entry, entries_of(view, entry.pack), now)]
    lines += _header(content)
    lines += _results(content, entry.name, every_file=every_file) if content.results else []
    lines += [f"file: {file.what}, {size_text(file.size)}" for file in content.files]
    lines += [f"what it holds is not shown: {content.not_read}"] if content.not_read else []
    return Report("\n  ".join(lines))


def _where_it_is(name: str, listed: ListedEntry, entry: Entry, beside: int, now: float) -> Iterator[str]:
    yield f"{listed.name} of {name}"
    yield f"{listed.kind}, {size_text(listed.size)} as a file, {size_text(listed.stored)} in its pack"
    yield f"made {age_text(now - listed.created)} ago, last used {age_text(now - listed.used)} ago"
    yield f"in the working sets of: {sets_text(listed) or 'no run that is remembered'}"
    pack = f"pack {entry.pack.name[:_PACK_SHOWN]}..., {size_text(entry.pack.size)}"
    if entry.section.codec is Codec.BARE:
        yield f"{pack}, which is this entry alone"
    else:
        at = entry.section.offset + (entry.slot.offset if entry.section.codec is Codec.VERBATIM else 0)
        packed = " (compressed together with others)" if entry.section.codec is Codec.ZSTD else ""
        yield f"{pack}, with {beside:,} live entries; this one's bytes begin at {at:,}{packed}"


def _header(content: EntryContent) -> Iterator[str]:
    header = content.header
    how = f"compressed by zstd at level {header.level}" if header.compressed else "not compressed"
    yield f"written by ccache {header.ccache_version}, {how}, {size_text(header.payload_size)} unpacked"
    if header.namespace:
        yield f"in ccache's own namespace {header.namespace}"
    if not header.self_contained:
        yield "files of it lie beside it, which no pack has"


def _results(content: EntryContent, manifest: str, *, every_file: bool) -> Iterator[str]:
    """Yield the results of a manifest, the newest first, which files differ from the one before, and those of the newest."""
    results = content.results
    yield f"{len(results):,} results, the newest first:"
    shown = results[-_RESULTS:]
    changed = {
        after.key: [path for path, digest in after.files.items() if before.files.get(path) != digest]
        for before, after in pairwise(shown)
    }
    for result in reversed(shown):
        paths = changed.get(result.key, [])
        more = ", ..." if len(paths) > _CHANGED else ""
        how = f"; not as in the one before: {', '.join(paths[:_CHANGED])}{more}" if paths else ""
        yield f"  {result.name(manifest)}, of {len(result.files):,} files{how}"
    if len(results) > len(shown):
        yield f"  and {len(results) - len(shown):,} older ones"
    files = list(results[-1].files)
    yield "the newest has included (a manifest does not name the source itself):"
    for path in files if every_file else files[:_FILES]:
        yield f"  {path}"
    if len(files) > _FILES and not every_file:
        yield f"  and {len(files) - _FILES:,} more: --files shows all"
