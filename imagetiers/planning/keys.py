"""Keys: what an image or its wheels are made from, as a printable document and the hash of it. Pure.

A key says nothing of when, where or by whom. Whatever decides what an image holds is a named part of its key document:

    recipe      the version of the rules in this package by which images are made; raised when they change
    platform    linux/amd64
    stages      the instructions of the Dockerfile stages that run, comments gone, what they are FROM resolved
    target      the stage that becomes the image
    args        build arguments that these stages declare (the arch list of `gpus` is one of them)
    bases       outside images, by digest where pipeline.lock.yaml pins them
    parent      the parent tier's key
    wheels      the compile key of the wheels that are installed
    files       path, kind (644, 755, link) and sha256 of those listed files that these stages take
    run         of a compile key: the command
    refresh     the calendar day, week or month, where the tier asks for it
    secrets     ids, never values

Instructions, not the Dockerfile's bytes: a comment rebuilds nothing, and the runtime stage is no part of a compile key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from imagetiers.config.layout import DOCKERFILE
from imagetiers.config.model import Refresh
from imagetiers.dockerfile.context import Tree
from imagetiers.dockerfile.flags import quoted
from imagetiers.dockerfile.model import Instruction, Stage, stage_args
from imagetiers.dockerfile.render import render_dockerfile
from imagetiers.documents import parse_object
from imagetiers.inputs.repository import PARENT_ARG, REFRESH_ARG, TierInputs
from imagetiers.inputs.snapshot import InputFile

__all__ = [
    "FILES_LEFT_OUT",
    "RECIPE",
    "UNPINNED",
    "KeyChange",
    "KeyDocument",
    "compile_document",
    "compiles_in_parent",
    "diff",
    "image_document",
    "instruction_lines",
    "read_key_document",
    "refresh_epoch",
    "short",
]

RECIPE = 1
UNPINNED = "unpinned"
FILES_LEFT_OUT = "(too many for a label)"
SHORT = 12


def short(key: str) -> str:
    """Return a key as people read it: 12 hex digits."""
    return key[:SHORT]


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
    recipe: int = RECIPE
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", hashlib.sha256(self.json().encode()).hexdigest())

    def content(self) -> dict[str, Any]:
        """Return the document as JSON knows it."""
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
            "wheels": self.wheels,
            "run": list(self.run),
            "files": {path: [kind, digest] for path, kind, digest in self.files},
            "refresh": self.refresh,
            "secrets": list(self.secrets),
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
    mappings = all(isinstance(document.get(part, {}), dict) for part in ("stages", "args", "bases", "files"))
    lists = all(isinstance(document.get(part, []), list) for part in ("run", "secrets"))
    return mappings and lists and all(isinstance(lines, list) for lines in document.get("stages", {}).values())


def refresh_epoch(refresh: Refresh, today: date) -> str | None:
    """Return the calendar period that `today` (UTC) lies in, as it enters a key; None for never."""
    year, week, _ = today.isocalendar()
    return {
        Refresh.NEVER: None,
        Refresh.DAILY: today.isoformat(),
        Refresh.WEEKLY: f"{year}-W{week:02}",
        Refresh.MONTHLY: f"{today.year}-{today.month:02}",
    }[refresh]


def compile_document(
    inputs: TierInputs, platform: str, pins: Mapping[str, str], *, parent: str | None = None
) -> KeyDocument:
    """Return what the wheels of a tier with a compile step are made from; `parent` is the key of what it compiles in, if that.

    The refresh epoch is no part of it: updates of the distribution reach the image, but compile nothing anew.
    """
    stages = compile_stages(inputs)
    step = inputs.tier.compile
    return KeyDocument(
        kind="compile",
        tier=inputs.tier.name,
        platform=platform,
        stages=_texts(inputs, stages),
        target=inputs.compile_stage.label,
        args=_args(inputs, stages),
        bases=_bases(inputs, stages, pins),
        files=_files(inputs, stages, pins),
        secrets=tuple(secret.id for secret in inputs.tier.secrets),
        run=step.run if step else (),
        parent=parent,
    )


def image_document(
    inputs: TierInputs,
    platform: str,
    pins: Mapping[str, str],
    *,
    parent: str | None,
    wheels: str | None,
    epoch: str | None,
) -> KeyDocument:
    """Return what the image of a tier is made from, given its parent's key and its wheels' compile key."""
    stages = image_stages(inputs)
    args = _args(inputs, stages)
    if epoch is not None and REFRESH_ARG in _declared(inputs, stages):
        args[REFRESH_ARG] = epoch
    return KeyDocument(
        kind="image",
        tier=inputs.tier.name,
        platform=platform,
        stages=_texts(inputs, stages),
        target=inputs.target.label,
        args=args,
        bases=_bases(inputs, stages, pins),
        files=_files(inputs, stages, pins),
        secrets=tuple(secret.id for secret in inputs.tier.secrets),
        parent=parent,
        wheels=wheels,
        refresh=epoch,
    )


def compile_stages(inputs: TierInputs) -> tuple[Stage, ...]:
    """Return the stages that the compile stage is made of."""
    return inputs.reading.reach(inputs.compile_stage)


def compiles_in_parent(inputs: TierInputs) -> bool:
    """Say whether the compile stages take the parent's image."""
    return inputs.parent is not None and inputs.parent in inputs.reading.outside(compile_stages(inputs))


def image_stages(inputs: TierInputs) -> tuple[Stage, ...]:
    """Return the stages that run for the image when the wheels are there."""
    return inputs.reading.reach(inputs.target, replaced=inputs.replaced)


def compile_files(inputs: TierInputs) -> tuple[InputFile, ...]:
    """Return the files that the compile stages take: these, and no others, are sent to build them."""
    return _taken(inputs, compile_stages(inputs))


def image_files(inputs: TierInputs) -> tuple[InputFile, ...]:
    """Return the listed files that the image's stages take: these, and no others, are sent to build it."""
    return _taken(inputs, image_stages(inputs))


def compile_dockerfile(inputs: TierInputs, pins: Mapping[str, str]) -> bytes:
    """Return the Dockerfile that is sent to build the compile stages."""
    return _dockerfile(inputs, compile_stages(inputs), pins)


def image_dockerfile(inputs: TierInputs, pins: Mapping[str, str]) -> bytes:
    """Return the Dockerfile that is sent to build the image."""
    return _dockerfile(inputs, image_stages(inputs), pins)


def compile_args(inputs: TierInputs) -> dict[str, str]:
    """Return the build arguments that are sent to build the compile stages."""
    return _given(inputs, compile_stages(inputs))


def image_args(inputs: TierInputs) -> dict[str, str]:
    """Return the build arguments that are sent to build the image, except the parent and the refresh epoch."""
    return _given(inputs, image_stages(inputs))


def _dockerfile(inputs: TierInputs, stages: tuple[Stage, ...], pins: Mapping[str, str]) -> bytes:
    parent = (PARENT_ARG, inputs.parent) if inputs.parent is not None else None
    padded = not _takes_dockerfile(inputs, stages)
    return render_dockerfile(inputs.reading, stages, lambda ref: _pinned(ref, pins), parent=parent, padded=padded)


def _takes_dockerfile(inputs: TierInputs, stages: tuple[Stage, ...]) -> bool:
    """Say whether the Dockerfile itself, which lies in the build context, is taken by a `COPY . ` or the like."""
    tree = Tree({DOCKERFILE: None})
    uses = inputs.reading.context_uses(stages)
    return any(tree.take(use.source, use.patterns).paths for use in uses)


def _taken(inputs: TierInputs, stages: tuple[Stage, ...]) -> tuple[InputFile, ...]:
    tree = inputs.files.tree()
    paths: set[str] = set()
    for use in inputs.reading.context_uses(stages):
        paths |= tree.take(use.source, use.patterns).paths
    return tuple(file for file in inputs.files.files if file.path in paths)


def _files(inputs: TierInputs, stages: tuple[Stage, ...], pins: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    files = _taken(inputs, stages)
    if _takes_dockerfile(inputs, stages):
        files = (*files, InputFile(DOCKERFILE, _dockerfile(inputs, stages, pins)))
    return tuple(sorted((file.path, file.mode, file.sha256) for file in files))


def _declared(inputs: TierInputs, stages: tuple[Stage, ...]) -> set[str]:
    return {name for stage in stages for name, _ in stage_args(stage, inputs.dockerfile.escape)}


def _given(inputs: TierInputs, stages: tuple[Stage, ...]) -> dict[str, str]:
    given = {**inputs.args, **inputs.tier.bases}
    return {name: given[name] for name in sorted(_declared(inputs, stages)) if name in given}


def _args(inputs: TierInputs, stages: tuple[Stage, ...]) -> dict[str, str]:
    given = {**inputs.args, **inputs.tier.bases}
    values = {**inputs.reading.global_scope.values, **given}
    found = {name: values.get(name) for name in sorted(_declared(inputs, stages))}
    return {name: value for name, value in found.items() if value is not None}


def _bases(inputs: TierInputs, stages: tuple[Stage, ...], pins: Mapping[str, str]) -> dict[str, str]:
    outside = set(inputs.reading.outside(stages, inputs.replaced))
    named = set(inputs.tier.bases.values())
    if inputs.dockerfile.syntax is not None:
        outside.add(inputs.dockerfile.syntax)
        named.add(inputs.dockerfile.syntax)
    return {ref: _pin(ref, pins) for ref in sorted(outside) if ref in named}


def _pin(ref: str, pins: Mapping[str, str]) -> str:
    _, at, digest = ref.partition("@")
    return digest if at else pins.get(ref, UNPINNED)


def _pinned(ref: str, pins: Mapping[str, str]) -> str:
    return f"{ref}@{pins[ref]}" if ref in pins and "@" not in ref else ref


def _texts(inputs: TierInputs, stages: tuple[Stage, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    dockerfile, reading = inputs.dockerfile, inputs.reading
    texts: list[tuple[str, tuple[str, ...]]] = []
    for stage in stages:
        lines = [f"FROM {reading.base_of(stage)}"]
        lines += [f"uses {reference.name}" for reference in reading.references(stage)[1:]]
        platform = reading.platform_of(stage)
        if platform is not None:
            lines.append(f"platform {platform}")
        if dockerfile.escape != "\\":
            lines.append(f"escape {dockerfile.escape}")
        if dockerfile.syntax is not None:
            lines.append(f"syntax {dockerfile.syntax}")
        for instruction in stage.instructions:
            lines += instruction_lines(instruction)
        texts.append((stage.label, tuple(lines)))
    return tuple(texts)


def instruction_lines(instruction: Instruction) -> tuple[str, ...]:
    """Return an instruction as it stands in a key document, its heredocs behind it."""
    flags = "".join(f" --{name}={quoted(value)}" for name, value in instruction.flags)
    line = f"{instruction.keyword}{flags} {instruction.text}"
    for number, heredoc in enumerate(instruction.heredocs):
        if not heredoc.content:  # no line at all is not the same as an empty one
            line += f"\nheredoc {number} is empty"
    return (line, *(heredoc.content.removesuffix("\n") for heredoc in instruction.heredocs))


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
        if self.part in {"parent", "wheels", "stage"}:
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
    scalar("wheels")
    mapping("files", "file")
    for part in ("run", "refresh", "secrets"):
        scalar(part)
    return tuple(changes)


def _text(value: Any) -> str | None:
    if value is None or value == []:
        return None
    if isinstance(value, str):
        return value
    return json.dumps(value) if not isinstance(value, list) else " ".join(map(str, value))
