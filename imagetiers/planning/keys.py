"""Keys: what an image or its wheels are made from, as a printable document and the hash of it. Pure.

A key says nothing of when, where or by whom. Whatever decides what an image holds is a named part of its key document:

    recipe      the version of the rules in this package by which images are made; raised when they change
    platform    linux/amd64
    stages      the instructions of the Dockerfile stages that run, comments gone, what they are FROM resolved
    target      the stage that becomes the image
    args        build arguments that these stages declare (the arch list of `gpus` is one of them)
    bases       outside images, by digest where pipeline.lock.yaml pins them
    parent      the parent tier's key
    contexts    what the Dockerfile takes from by a name, where there is any: a tier's key, an outside image, //folder
    makes       files or oci, where no image is made
    labels      those that pipeline.yaml adds, where there are any
    wheels      the compile key of the wheels that are installed
    files       path, kind (644, 755, link) and sha256 of those files that these stages take: listed ones, and
                //folder/path of named contexts
    run         of a compile key: the command
    refresh     the calendar day, week or month, where the tier asks for it
    secrets     ids, never values; `ssh:ID` for an agent
    network     none or host, where the tier says it
    outputs     of a compile key: patterns of what is kept, where that is not wheels alone

Instructions, not the Dockerfile's bytes: a comment rebuilds nothing, and the runtime stage is no part of a compile key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagetiers.documents import parse_object

__all__ = [
    "FILES_LEFT_OUT",
    "RECIPE",
    "UNPINNED",
    "KeyChange",
    "KeyDocument",
    "diff",
    "is_key",
    "read_key_document",
    "short",
]

RECIPE = 1
UNPINNED = "unpinned"
FILES_LEFT_OUT = "(too many for a label)"
SHORT = 12
_KEY = re.compile(r"[0-9a-f]{64}")


def short(key: str) -> str:
    """Return a key as people read it: 12 hex digits."""
    return key[:SHORT]


def is_key(text: object) -> bool:
    """Say whether it is a whole key."""
    return isinstance(text, str) and _KEY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class KeyDocument:
    """Everything that a key is the hash of. `files` are (path, kind, sha256)."""

    kind: str
    tier: str
    platform: str
    stages: tuple[tuple[str, tuple[str, ...]], ...]
    target: str
    args: Mapping[str, str]
    bases: Mapping[str, str]
    files: tuple[tuple[str, str, str], ...]
    secrets: tuple[str, ...]
    parent: str | None = None
    wheels: str | None = None
    run: tuple[str, ...] = ()
    refresh: str | None = None
    network: str | None = None
    outputs: tuple[str, ...] = ()
    recipe: int = RECIPE
    contexts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    makes: str | None = None
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", hashlib.sha256(self.json().encode()).hexdigest())

    def content(self) -> dict[str, Any]:
        """Return the document as JSON knows it. What came later is there only where it is used: so keys stay what they were."""
        return {
            "recipe": self.recipe,
            "kind": self.kind,
            "tier": self.tier,
            "platform": self.platform,
            "stages": {name: list(lines) for name, lines in self.stages},
            "target": self.target,
            "args": dict(self.args),
            "bases": dict(self.bases),
            "parent": self.parent,
            **({"contexts": dict(self.contexts)} if self.contexts else {}),
            **({"labels": dict(self.labels)} if self.labels else {}),
            **({"makes": self.makes} if self.makes is not None else {}),
            "wheels": self.wheels,
            "run": list(self.run),
            "files": {path: [kind, digest] for path, kind, digest in self.files},
            "refresh": self.refresh,
            "secrets": list(self.secrets),
            **({"network": self.network} if self.network is not None else {}),
            **({"outputs": list(self.outputs)} if self.outputs else {}),
        }

    def json(self) -> str:
        """Return the canonical text: the key is its sha256."""
        return json.dumps(self.content(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def read_key_document(text: str | bytes, key: str) -> Mapping[str, Any] | None:
    """Return the key document's document, None for a text that is not the one that `key` is the hash of.

    A label that was too small for all files says so; of such a one only the form is checked, and it decides nothing.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    document = parse_object(data)
    if document is None or not _has_form(document):
        return None
    whole = hashlib.sha256(data).hexdigest() == key
    return document if whole or document.get("files", {}).keys() == {FILES_LEFT_OUT} else None


def _has_form(document: Mapping[str, Any]) -> bool:
    mappings = all(
        isinstance(document.get(part, {}), dict) for part in ("stages", "args", "bases", "contexts", "labels", "files")
    )
    lists = all(isinstance(document.get(part, []), list) for part in ("run", "secrets"))
    return mappings and lists and all(isinstance(lines, list) for lines in document.get("stages", {}).values())


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One difference between two key documents: which part, which entry of it, and both values (None = absent)."""

    part: str
    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        name = f"{self.part} {self.name}".strip()
        if self.part == "file":
            return f"{self.name} " + ("added" if self.before is None else "removed" if self.after is None else "edited")
        of_a_tier = self.part == "context" and is_key(self.before) and is_key(self.after)
        if of_a_tier or self.part in {"parent", "wheels", "stage"}:
            return f"{name} changed"
        return f"{name}: {self.before or 'none'} -> {self.after or 'none'}"


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[KeyChange, ...]:
    """Return what differs between two key documents' documents, in the order of the table above."""
    changes: list[KeyChange] = []

    def scalar(part: str) -> None:
        old, new = before.get(part), after.get(part)
        if old != new:
            changes.append(KeyChange(part, "", _text(old), _text(new)))

    def mapping(part: str, name: str) -> None:
        old, new = before.get(part) or {}, after.get(part) or {}
        changes.extend(
            KeyChange(name, entry, _text(old.get(entry)), _text(new.get(entry)))
            for entry in sorted({*old, *new})
            if old.get(entry) != new.get(entry)
        )

    for part in ("recipe", "platform"):
        scalar(part)
    mapping("stages", "stage")
    scalar("target")
    mapping("args", "arg")
    mapping("bases", "base")
    scalar("parent")
    mapping("contexts", "context")
    mapping("labels", "label")
    scalar("wheels")
    mapping("files", "file")
    for part in ("run", "refresh", "secrets", "network", "outputs", "makes"):
        scalar(part)
    return tuple(changes)


def _text(value: Any) -> str | None:
    if value is None or value == []:
        return None
    if isinstance(value, str):
        return value
    return json.dumps(value) if not isinstance(value, list) else " ".join(map(str, value))
