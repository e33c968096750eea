"""What the cache keeps of each build: key documents by key, and records of what was measured."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from imagetiers.errors import PreconditionError, StoreError
from imagetiers.events import Recorded
from imagetiers.inputs.files import InputFile
from imagetiers.planning.hit_rates import ClassHits
from imagetiers.planning.keys import KeyDocument
from imagetiers.session import Session

__all__ = ["Record", "inputs_name", "keep", "keep_inputs"]

MAX_TEXT = 100_000  # of one file, and ten times that in all: enough for what people edit by hand


@dataclass(frozen=True, slots=True)
class Record:
    """What a build of a key measured and produced. Times in seconds (`began`: Unix time), sizes in bytes.

    `saved_seconds` are what the hits' objects took when they were compiled, 0 where too little is known of that;
    `compiled_seconds` what the compilers took now; `classes` are both, and the calls, by class of object.

    `phases` says where the seconds went, in order, and `parts` the same of the compile container, by the headings that it
    prints. `pipeline`, `variant`, `change` (its kind, `planning.forecast`) and `cpus` (the engine's) say which builds it is
    like; a record without a `change` is like none. `predicted` is what was forecast before it began: {seconds, low, high,
    from: so many records}, None where no record told.
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


def keep(session: Session, document: KeyDocument, record: Record) -> None:
    """Write key document and record, and tell of it. A cache that does not take them costs a line, never the build."""
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
