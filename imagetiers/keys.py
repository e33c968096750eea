"""Keys: what an image or its wheels are made from, as a printable document and the hash of it. Pure.

A key says nothing of when, where or by whom. Whatever decides what an image holds is a named part of its key manifest:

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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from imagetiers.dockerfile import Dockerfile, Instruction, Stage, stage_args
from imagetiers.model import Refresh
from imagetiers.repository import REFRESH_ARG, TierInputs
from imagetiers.snapshot import InputFile, ManifestLine

__all__ = [
    "RECIPE",
    "UNPINNED",
    "Change",
    "KeyManifest",
    "compile_manifest",
    "diff",
    "image_manifest",
    "instruction_lines",
    "refresh_epoch",
    "short",
]

RECIPE = 1
UNPINNED = "unpinned"
SHORT = 12


def short(key: str) -> str:
    """Return a key as people read it: 12 hex digits."""
    return key[:SHORT]


@dataclass(frozen=True, slots=True)
class KeyManifest:
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

    def document(self) -> dict[str, Any]:
        """Return the manifest as JSON knows it."""
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
        return json.dumps(self.document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def refresh_epoch(refresh: Refresh, today: date) -> str | None:
    """Return the calendar period that `today` (UTC) lies in, as it enters a key; None for never."""
    year, week, _ = today.isocalendar()
    return {
        Refresh.NEVER: None,
        Refresh.DAILY: today.isoformat(),
        Refresh.WEEKLY: f"{year}-W{week:02}",
        Refresh.MONTHLY: f"{today.year}-{today.month:02}",
    }[refresh]


def compile_manifest(inputs: TierInputs, platform: str, pins: Mapping[str, str]) -> KeyManifest:
    """Return what the wheels of a tier with a compile step are made from.

    The refresh epoch is no part of it: updates of the distribution reach the image, but compile nothing anew.
    """
    stages = compile_stages(inputs)
    step = inputs.tier.compile
    return KeyManifest(
        kind="compile",
        tier=inputs.tier.name,
        platform=platform,
        stages=_texts(inputs, stages),
        target=inputs.compile_stage.label,
        args=_args(inputs.dockerfile, stages, inputs.args),
        bases=_bases(inputs, stages, pins),
        files=_digests(compile_files(inputs)),
        secrets=tuple(secret.id for secret in inputs.tier.secrets),
        run=step.run if step else (),
    )


def image_manifest(
    inputs: TierInputs,
    platform: str,
    pins: Mapping[str, str],
    *,
    parent: str | None,
    wheels: str | None,
    epoch: str | None,
) -> KeyManifest:
    """Return what the image of a tier is made from, given its parent's key and its wheels' compile key."""
    stages = image_stages(inputs)
    args = _args(inputs.dockerfile, stages, inputs.args)
    if epoch is not None and any(name == REFRESH_ARG for stage in stages for name, _ in stage_args(stage)):
        args[REFRESH_ARG] = epoch
    return KeyManifest(
        kind="image",
        tier=inputs.tier.name,
        platform=platform,
        stages=_texts(inputs, stages),
        target=inputs.target.label,
        args=args,
        bases=_bases(inputs, stages, pins),
        files=_digests(image_files(inputs)),
        secrets=tuple(secret.id for secret in inputs.tier.secrets),
        parent=parent,
        wheels=wheels,
        refresh=epoch,
    )


def compile_stages(inputs: TierInputs) -> tuple[Stage, ...]:
    """Return the stages that the compile stage is made of."""
    return inputs.dockerfile.reach(inputs.compile_stage, inputs.references)


def image_stages(inputs: TierInputs) -> tuple[Stage, ...]:
    """Return the stages that run for the image when the wheels are there."""
    return inputs.dockerfile.reach(inputs.target, inputs.references, replaced=inputs.replaced)


def compile_files(inputs: TierInputs) -> tuple[InputFile, ...]:
    """Return the files that the compile stages take: these, and no others, are sent to build them."""
    return _taken(inputs, compile_stages(inputs))


def image_files(inputs: TierInputs) -> tuple[InputFile, ...]:
    """Return the listed files that the image's stages take: these, and no others, are sent to build it."""
    return _taken(inputs, image_stages(inputs))


def _taken(inputs: TierInputs, stages: tuple[Stage, ...]) -> tuple[InputFile, ...]:
    uses = [
        ManifestLine(use.line, "**" if use.source == "." else use.source)
        for use in inputs.dockerfile.context_uses(stages, inputs.references)
    ]
    return tuple(file for file in inputs.files.files if any(use.matches(file.path) for use in uses))


def _digests(files: Iterable[InputFile]) -> tuple[tuple[str, str, str], ...]:
    return tuple(sorted((file.path, file.mode, file.sha256) for file in files))


def _args(dockerfile: Dockerfile, stages: tuple[Stage, ...], given: Mapping[str, str]) -> dict[str, str]:
    outer = dockerfile.global_values(given)
    names = {name for stage in stages for name, _ in stage_args(stage)}
    values = {**outer, **given}
    return {name: values[name] for name in sorted(names) if name in values}


def _bases(inputs: TierInputs, stages: tuple[Stage, ...], pins: Mapping[str, str]) -> dict[str, str]:
    references = inputs.references
    outside = inputs.dockerfile.outside(stages, references, inputs.replaced)
    named = set(inputs.tier.bases.values())
    return {ref: _pin(ref, pins) for ref in sorted(outside) if ref in named}


def _pin(ref: str, pins: Mapping[str, str]) -> str:
    _, at, digest = ref.partition("@")
    return digest if at else pins.get(ref, UNPINNED)


def _texts(inputs: TierInputs, stages: tuple[Stage, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    references = inputs.references
    texts: list[tuple[str, tuple[str, ...]]] = []
    for stage in stages:
        lines = [f"FROM {inputs.dockerfile.base_of(stage, references)}"]
        lines += [f"uses {name}" for name, _ in inputs.dockerfile.references(stage, references)[1:]]
        if stage.platform:
            lines.append(f"platform {stage.platform}")
        for instruction in stage.instructions:
            lines += instruction_lines(instruction)
        texts.append((stage.label, tuple(lines)))
    return tuple(texts)


def instruction_lines(instruction: Instruction) -> tuple[str, ...]:
    """Return an instruction as it stands in a key manifest."""
    flags = "".join(f" --{name}={value}" for name, value in instruction.flags)
    return (f"{instruction.keyword}{flags} {instruction.text}", *instruction.heredocs)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two key manifests: which part, which entry of it, and both values (None = absent)."""

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


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return what differs between two key manifests' documents, in the order of the table above."""
    changes: list[Change] = []

    def scalar(part: str) -> None:
        old, new = before.get(part), after.get(part)
        if old != new:
            changes.append(Change(part, "", _text(old), _text(new)))

    def mapping(part: str, name: str) -> None:
        old, new = before.get(part) or {}, after.get(part) or {}
        changes.extend(
            Change(name, entry, _text(old.get(entry)), _text(new.get(entry)))
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
