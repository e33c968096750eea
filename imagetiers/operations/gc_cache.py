"""What the cache keeps besides ccache's packs, as items, and which of it is needed: what is read for `cache:gc`.

Keys are followed by their first 12 digits, as they stand in references and in names of records. Needed is what belongs
to a key of the pipeline as it is now (in every variant), to one that is published, that somebody builds at this moment,
or that is among the newest recorded of its tier and variant, with the wheels that its key document names and its
parents. What cannot be read is not absent: it stays, and so does all that it might name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from imagetiers.config.model import Trust
from imagetiers.errors import StoreError
from imagetiers.parallel import map_parallel
from imagetiers.planning.forecast import Sample, read_sample
from imagetiers.planning.housekeeping import Item
from imagetiers.planning.keys import SHORT, is_key
from imagetiers.planning.observed import Absent
from imagetiers.services import Registry
from imagetiers.state.aggregates import AGGREGATE
from imagetiers.state.build_folders import decode_folders
from imagetiers.stores.port import Blob, Store

__all__ = ["KINDS", "CacheContents", "Part", "read_cache"]

KINDS = ("wheels", "inputs", "keys", "records", "verdicts", "published", "objects", "folders", "made")
"""The folders of a cache that `cache:gc` looks after; ccache's packs have a housekeeping of their own."""

LEFT = "left over"
"""The kind of what a killed build has left."""

_THREADS = 16
_DOCUMENT_MAX = 16 * 1024 * 1024
_NAMED = {
    "wheels": re.compile(r"([0-9a-f]{64})\.tar"),
    "made": re.compile(r"([0-9a-f]{64})\.tar"),
    "inputs": re.compile(r"([0-9a-f]{64})\.json"),
    "keys": re.compile(r"([0-9a-f]{64})\.json"),
    "records": re.compile(rf"[^/]+/(?:compile|image)/\d+-([0-9a-f]{{{SHORT}}})\.json"),
    "objects": re.compile(r"[^/]+\.json"),
    "folders": re.compile(r"[^/]+(?:\.json|/[0-9a-f]{64}\.zst)"),
    "verdicts": re.compile(r"[0-9a-f]{64}/[^/]+\.json"),
    "published": re.compile(rf"(.+:([0-9a-f]{{{SHORT}}}))\.json"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What builds of one trust level, or of one untrusted branch, have in a cache; `registry`: where they publish, if so.

    Each part is looked at by itself: what a pull request writes neither keeps nor removes anything of others.
    """

    store: Store
    trust: Trust
    registry: Registry | None


@dataclass(frozen=True, slots=True)
class _Object:
    """An object of the cache: what (`kind`), and its name below that."""

    blob: Blob
    kind: str
    rest: str

    @property
    def key(self) -> str:
        """The first digits of the key in its name; none for verdicts."""
        match = _NAMED[self.kind].fullmatch(self.rest)
        return match[match.re.groups][:SHORT] if match and match.re.groups else ""


@dataclass
class CacheContents:
    """Items, the names that must stay, records as forecasts know them, and why things stay that could not be read."""

    items: list[Item] = field(default_factory=list)
    needed: set[str] = field(default_factory=set)
    samples: dict[str, Sample | None] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    foreign: int = 0


def read_cache(part: Part, live: Iterable[str], *, keep: int, old: float) -> CacheContents:
    """Read what is there. `live` are keys (their first digits) that are in use, `keep` so many newest builds of a variant.

    Documents that only tell whether something old is needed are read for what was written before `old` (Unix s). Never
    raises StoreError: what cannot be listed has no items, and so stays.
    """
    reading = CacheContents()
    objects = list(_list(part, reading))
    by_kind: dict[str, list[_Object]] = defaultdict(list)
    for one in objects:
        by_kind[one.kind].append(one)
    roots = set(live) | {one.key for one in by_kind["published"]}
    records = _documents(part.store, by_kind["records"], reading)
    roots |= _newest(by_kind["records"], records, keep)
    reading.samples = {one.blob.name: read_sample(records.get(one.blob.name)) for one in by_kind["records"]}
    documents = _key_documents(part.store, by_kind["keys"], reading)
    keys = _closure(roots, documents)
    used = _uses(by_kind, documents)
    reading.needed |= {
        one.blob.name for one in objects if one.kind in {"wheels", "inputs", "keys", "made"} and one.key in keys
    }
    if part.registry is not None:
        _need_published(part.store, part.registry, by_kind["published"], reading)
    _need_verdicts(part.store, [one for one in by_kind["verdicts"] if one.blob.updated < old], keys, reading)
    folders = _folders(part.store, by_kind["folders"], reading)
    for one in objects:
        if one.kind == "folders":
            at = folders.get(one.blob.name)
            kind = "folders" if at is not None else LEFT
            reading.items.append(Item(one.blob.name, kind, one.blob.size, at or one.blob.updated, one.blob.generation))
            continue
        tier = str((documents.get(one.key) or {}).get("tier", "")) if one.kind != "records" else _folder(one.rest)
        at = max(one.blob.updated, used.get(one.key, 0.0)) if one.key and one.kind != "records" else one.blob.updated
        reading.items.append(Item(one.blob.name, one.kind, one.blob.size, at, one.blob.generation, tier))
    if reading.doubts:  # what could not be read might need any of it
        reading.needed |= {one.blob.name for one in objects}
    return reading


def _list(part: Part, reading: CacheContents) -> Iterator[_Object]:
    for kind in KINDS:
        folder = f"{part.trust.prefix}{kind}/"
        try:
            blobs = list(part.store.list(folder))
        except StoreError as error:
            reading.doubts.append(f"{folder} cannot be listed: {error}")
            continue
        for blob in blobs:
            rest = blob.name.removeprefix(folder)
            if _NAMED[kind].fullmatch(rest):
                yield _Object(blob, kind, rest)
            elif not blob.name.endswith(f"/{AGGREGATE}"):
                reading.foreign += 1


def _documents(
    store: Store, objects: Iterable[_Object], reading: CacheContents, *, hashed: bool = False
) -> dict[str, Any]:
    """Read documents, by name. One that is no JSON is left out; what cannot be read is a doubt.

    One that was listed a moment ago and is not there now was not read either. With `hashed`, names are the hash of the
    content, and one that is something else is a doubt, too.
    """

    def one(found: _Object) -> tuple[str, Any, str]:
        name = found.blob.name
        if found.blob.size > _DOCUMENT_MAX:
            # Of a key it would have said which wheels are needed; of a record it is enough that there is one.
            return name, None, f"{name}: is larger than any document; remove it if that is right" if hashed else ""
        try:
            data, _ = store.read(name)
        except StoreError as error:
            return name, None, f"{name}: {error}"
        if hashed and hashlib.sha256(data).hexdigest() not in name:
            return name, None, f"{name}: is not what its name says; remove it if that stays so"
        try:
            return name, json.loads(data), ""
        except (ValueError, RecursionError):
            return name, None, ""

    told = map_parallel(one, objects, _THREADS)
    reading.doubts += [doubt for _, _, doubt in told if doubt]
    return {name: document for name, document, _ in told if isinstance(document, dict)}


def _newest(records: Iterable[_Object], documents: Mapping[str, Any], keep: int) -> set[str]:
    """Return the keys of the `keep` newest builds of each tier and variant; of each pipeline.

    A record that cannot be understood is taken for one of a variant of its own, and so counts.
    """
    keys: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for one in sorted(records, key=lambda o: -o.blob.updated):
        document = documents.get(one.blob.name)
        if document is None:
            keys[one.blob.name,].append(one.key)
            continue
        group = (_folder(one.rest), str(document.get("pipeline")), str(document.get("variant")))
        if one.key not in keys[group]:
            keys[group].append(one.key)
    return {key for some in keys.values() for key in some[:keep]}


def _key_documents(store: Store, keys: Iterable[_Object], reading: CacheContents) -> dict[str, Mapping[str, Any]]:
    """Read all key documents, by the first digits of their key."""
    listed = list(keys)
    documents = _documents(store, listed, reading, hashed=True)
    return {one.key: documents[one.blob.name] for one in listed if one.blob.name in documents}


def _closure(roots: Iterable[str], documents: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the roots, the wheels that they were made with, their parents, and so on."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        key = waiting.pop()
        if key in found:
            continue
        found.add(key)
        document = documents.get(key, {})
        waiting += [value[:SHORT] for name in ("wheels", "parent") if isinstance(value := document.get(name), str)]
        contexts = document.get("contexts")
        waiting += [value[:SHORT] for value in (contexts or {}).values() if is_key(value)]
    return found


def _uses(by_kind: Mapping[str, Iterable[_Object]], documents: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return when each key was last built or published, or something that was made with its wheels (store's time)."""
    used: dict[str, float] = {}
    for kind in ("records", "published"):
        for one in by_kind.get(kind, ()):
            for key in _closure([one.key], documents):
                used[key] = max(used.get(key, 0.0), one.blob.updated)
    return used


def _folders(store: Store, found: Iterable[_Object], reading: CacheContents) -> dict[str, float]:
    """Return the lists of build folders, and the parts that they name, by when the list was written (store's time)."""
    times: dict[str, float] = {}
    for one in found:
        if not one.rest.endswith(".json"):
            continue
        times[one.blob.name] = one.blob.updated
        try:
            listed = decode_folders(store.read(one.blob.name)[0])
        except (StoreError, ValueError) as error:
            reading.doubts.append(f"{one.blob.name}: {error}")
            continue
        line = one.blob.name.removesuffix(".json")
        for folder in listed:
            times |= {f"{line}/{part.sha256}.zst": one.blob.updated for part in folder.parts}
    return times


def _need_published(store: Store, registry: Registry, published: Iterable[_Object], reading: CacheContents) -> None:
    """A record of publication stays for as long as the registry does not say that the image is gone."""
    listed = list(published)
    documents = _documents(store, listed, reading)
    refs: dict[str, str] = {}
    for one in listed:
        digest = documents.get(one.blob.name, {}).get("digest")
        ref = one.rest.removesuffix(".json")
        if isinstance(digest, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            refs[one.blob.name] = f"{ref.rpartition(':')[0]}@{digest}"
        else:
            reading.needed.add(one.blob.name)
    answers = registry.look_up(refs.values()) if refs else {}
    reading.needed |= {name for name, ref in refs.items() if not isinstance(answers.get(ref), Absent)}


def _need_verdicts(store: Store, verdicts: Iterable[_Object], keys: set[str], reading: CacheContents) -> None:
    """A verdict stays for as long as the key of its image does, and when it does not say which that is."""
    listed = list(verdicts)
    documents = _documents(store, listed, reading)
    for one in listed:
        key = documents.get(one.blob.name, {}).get("key")
        if not isinstance(key, str) or key[:SHORT] in keys:
            reading.needed.add(one.blob.name)


def _folder(rest: str) -> str:
    return rest.rpartition("/")[0]
