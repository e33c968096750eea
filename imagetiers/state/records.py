"""What the cache keeps of each build: key documents by key, and records of what was measured."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from imagetiers.config.model import Trust
from imagetiers.documents import parse_object
from imagetiers.errors import CorruptError, NotFoundError, PreconditionError, StoreError
from imagetiers.events import Recorded
from imagetiers.inputs.files import InputFile
from imagetiers.parallel import map_parallel
from imagetiers.planning.hit_rates import ClassHits
from imagetiers.planning.keys import KeyDocument, short
from imagetiers.session import Session
from imagetiers.stores.port import Store

__all__ = ["Record", "inputs_name", "is_own", "keep", "keep_inputs", "kept_records", "own_records", "read_record"]

_MOST = 200  # records of a tier's compiles or images that are read at once, where nobody says how many
_THREADS = 16
_LATEST = 1e11  # Unix seconds: what is later is no time
MAX_TEXT = 100_000  # of one file, and ten times that in all: enough for what people edit by hand


@dataclass(frozen=True, slots=True)
class Record:
    """What a build of a key measured and produced. Times in seconds (`began`: Unix time), sizes in bytes.

    `saved_seconds` are what the hits' objects took when they were compiled, 0 where too little is known of that;
    `compiled_seconds` what the compilers took now; `classes` are both, and the calls, by class of object.

    `phases` says where the seconds went, in order, and `parts` the same of the compile container, by the headings that it
    prints. `pipeline`, `variant`, `change` (its kind, `planning.forecast`) and `cpus` (the engine's) say which builds it is
    like; a record without a `change` is like none. `predicted` is what was forecast before it began: {seconds, low, high,
    from: so many records}, None where no record told. `worker` is the machine or service that has built; `pushed` are the
    bytes that a compile has added to the compiler cache, `cached` those of all packs of its namespace then (0: not known).
    `run` is what the records of one build have in common ('': of a version that did not say it).
    """

    kind: str
    tier: str
    key: str
    began: float
    seconds: float
    hits: int = 0
    misses: int = 0
    saved_seconds: float = 0.0
    compiled_seconds: float = 0.0
    classes: Sequence[ClassHits] = ()
    image: str = ""
    size: int = 0
    phases: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)
    pipeline: str = ""
    variant: str = ""
    change: str = ""
    cpus: int = 0
    predicted: Mapping[str, float] | None = None
    worker: str = ""
    pushed: int = 0
    cached: int = 0
    run: str = ""


def keep(session: Session, document: KeyDocument, record: Record) -> None:
    """Write key document and record, and tell of it. A cache that does not take them costs a line, never the build."""
    record = replace(record, run=session.services.run)
    session.services.events(Recorded(asdict(record)))
    try:
        with contextlib.suppress(PreconditionError):  # the same key has the same document
            session.services.store.write(
                f"{session.trust.prefix}keys/{document.key}.json", document.json().encode(), if_generation=0
            )
        name = f"{session.trust.prefix}records/{record.tier}/{record.kind}/{int(record.began)}-{record.key[:12]}.json"
        session.services.store.write(name, json.dumps(asdict(record), sort_keys=True).encode())
    except StoreError as error:
        session.services.console.line(f"{record.kind}:{record.tier}: its record was not kept: {error}")


def kept_records(
    store: Store, trusts: Iterable[Trust], tier: str, kind: str, *, most: int = _MOST, key: str = ""
) -> list[Record]:
    """Return the newest records of a tier's builds of that kind (`compile`, `image`), newest first; with `key`, of that key.

    They are of builds of these `trusts`, of any pipeline and variant. At most so many objects are read; what is damaged, or of
    another version, says nothing. Raises StoreError.
    """
    ending = f"-{short(key)}.json" if key else ".json"
    prefixes = dict.fromkeys(trust.prefix for trust in trusts)
    names = [blob.name for prefix in prefixes for blob in store.list(f"{prefix}records/{tier}/{kind}/")]
    named = [name for name in names if name.endswith(ending) and name.rpartition("/")[2][0].isdigit()]
    newest = sorted(named, key=lambda name: name.rpartition("/")[2])[-most:]
    read = map_parallel(lambda name: _read(store, name), newest, _THREADS)
    found = [one for one in read if one is not None and (one.tier, one.kind) == (tier, kind) and key in {"", one.key}]
    return sorted(found, key=lambda one: -one.began)


def own_records(session: Session, tier: str, kind: str, *, most: int, key: str = "") -> list[Record]:
    """Return those of them that are of this pipeline, variant and trust. Raises StoreError."""
    found = kept_records(session.services.store, (session.trust,), tier, kind, most=most, key=key)
    return [record for record in found if is_own(session, record)]


def read_record(document: Mapping[str, Any]) -> Record | None:
    """Return the record that a document is of, None for what is none: every field must be of its type."""
    texts = {
        name: document.get(name, "")
        for name in ("kind", "tier", "key", "image", "pipeline", "variant", "change", "worker", "run")
    }
    numbers = {name: document.get(name, 0) for name in ("began", "seconds", "saved_seconds", "compiled_seconds")}
    counts = {name: document.get(name, 0) for name in ("hits", "misses", "size", "cpus", "pushed", "cached")}
    phases, parts, predicted = (_seconds(document.get(name)) for name in ("phases", "parts", "predicted"))
    classes = (
        [_class(one) for one in document.get("classes") or ()]
        if isinstance(document.get("classes", []), list)
        else [None]
    )
    good = (
        all(isinstance(text, str) for text in texts.values())
        and all(_is_number(number) for number in numbers.values())
        and all(isinstance(count, int) and _is_number(count) for count in counts.values())
        and numbers["began"] < _LATEST
        and phases is not None
        and parts is not None
        and (predicted is not None or document.get("predicted") is None)
        and None not in classes
    )
    if not good or phases is None or parts is None:
        return None
    told = predicted if document.get("predicted") is not None else None
    hits = [one for one in classes if one is not None]
    return Record(**texts, **numbers, **counts, phases=phases, parts=parts, predicted=told, classes=hits)


def _class(document: object) -> ClassHits | None:
    match document:
        case {
            "name": str() as name,
            "hits": int() as hits,
            "misses": int() as misses,
            "unknown": int() as unknown,
            "saved": saved,
            "compiled": compiled,
        } if all(_is_number(one) for one in (hits, misses, unknown, saved, compiled)):
            return ClassHits(name, hits, misses, unknown, saved, compiled)
        case _:
            return None


def _seconds(document: object) -> Mapping[str, float] | None:
    if document is None:
        return {}
    good = isinstance(document, dict) and all(_is_number(value) for value in document.values())
    return document if good and isinstance(document, dict) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def is_own(session: Session, record: Record) -> bool:
    """Say whether a record is of this pipeline and variant. An adopted compile names neither, and its tier is enough."""
    own = (session.plan.pipeline.name, session.plan.pipeline.variant or "")
    return (record.pipeline, record.variant) in {own, ("", "")}


def _read(store: Store, name: str) -> Record | None:
    """Return a record; None of one that was removed meanwhile, is damaged, or of another version."""
    try:
        return read_record(parse_object(store.read(name)[0]) or {})
    except (NotFoundError, CorruptError):
        return None


def inputs_name(key: str) -> str:
    """Return the name under which the cache keeps the texts of a key's files."""
    return f"inputs/{key}.json"


def keep_inputs(session: Session, key: str, files: Iterable[InputFile]) -> None:
    """Keep the texts that an image or wheels were made from, so that `doit explain` can show which line has changed.

    Large and binary files are left out; nothing depends on this object.
    """
    texts: dict[str, str] = {}
    total = 0
    for file in files:
        size = file.size
        if file.content is None:
            continue
        if size <= MAX_TEXT and total + size <= 10 * MAX_TEXT and not file.link:
            with contextlib.suppress(UnicodeDecodeError):
                texts[file.path] = file.content.decode()
                total += size
    with contextlib.suppress(StoreError):
        data = json.dumps(texts, sort_keys=True).encode()
        session.services.store.write(session.trust.prefix + inputs_name(key), data, if_generation=0)
