"""What a target's Dockerfile takes, as a tier has it: outside images, named contexts, and files from the repository's root."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from imagetiers.bake.draft import Draft, Notes
from imagetiers.config.layout import MANIFEST, PIPELINE_FILE
from imagetiers.dockerfile.expand import LexError, Unresolved
from imagetiers.dockerfile.model import Instruction, Stage
from imagetiers.dockerfile.reading import Reading
from imagetiers.dockerfile.sources import SourceKind, kind_of

__all__ = ["TARGET", "read_draft", "text_of"]

IMAGE, TARGET = "docker-image://", "target:"
_CONTEXT = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*")
# What lies in the repository's root and is never meant by `COPY .`.
_OURS = (".git", ".imagetiers", ".gitignore", ".dockerignore", "dodo.py", "images", PIPELINE_FILE)


def read_draft(draft: Draft, drafts: Mapping[str, Draft], root: Path, platform: str, notes: Notes) -> None:
    """Find out which images, contexts, arguments and files the Dockerfile takes; `drafts` are those of other targets."""
    _arguments(draft, notes)
    reading = Reading(draft.dockerfile, draft.args, platform)
    stage = draft.dockerfile.stage(draft.target.target)
    if stage is None:
        notes.left.append(f"{draft.where}: target: its Dockerfile has no stage {draft.target.target}")
        return
    try:
        stages = reading.reach(stage)
        images = reading.outside(stages)
        uses = tuple(reading.context_uses(stages))
        base = _base(reading, stage)
    except (Unresolved, LexError) as error:
        notes.left.append(f"{draft.where}: its Dockerfile: {error} has no value that is known here")
        return
    marked = _marked_images(draft, stage, images, platform)
    for name, value in draft.target.contexts.items():
        _context(draft, name, value, drafts, notes, used=name in images, base=name == base)
    for image in images:
        if (
            image not in draft.target.contexts
        ):  # what that is, is known; or listed, and then `doit check` names the line
            _outside(draft, image, marked.get(image, image), notes)
    prefix = draft.context
    if draft.target.inline is None and str(prefix) != ".":
        draft.text = _prefixed(draft, str(prefix), notes)
        if any(use.keyword not in {"COPY", "ADD"} for use in uses):
            notes.left.append(f"{draft.where}: RUN --mount takes files of {prefix}/: write {prefix}/ before its source")
    for source in dict.fromkeys(use.source for use in uses):
        lines = _listed(draft, root, prefix / source.lstrip("/"), notes)
        draft.manifest += [line for line in lines if line not in draft.manifest]


def text_of(draft: Draft) -> str:
    """Return the Dockerfile, with a stage for the parent's image by the name that it has there, before the first of its own."""
    if draft.alias is None:
        return draft.text
    lines = draft.text.split("\n")
    first = draft.dockerfile.stages[0].line - 1
    lines[first:first] = ["ARG PARENT", f"FROM ${{PARENT}} AS {draft.alias}"]
    return "\n".join(lines)


def _base(reading: Reading, stage: Stage) -> str:
    """Return what the first of the stages is FROM on which `stage` stands. Raises Unresolved."""
    below = reading.references(stage)[0].stage
    return reading.base_of(stage) if below is None else _base(reading, below)


def _arguments(draft: Draft, notes: Notes) -> None:
    declared = draft.dockerfile.declared_args()
    for name, value in draft.target.args.items():
        where = f"{draft.where}: args: {name}"
        if value is None:
            notes.left.append(f"{where} comes from bake's environment; write its value")
        elif name not in declared or name.startswith("BUILDKIT_"):
            notes.left.append(f"{where}: {value}: its Dockerfile declares no ARG of that name")
        else:
            draft.args[name] = value


def _context(
    draft: Draft, name: str, value: str, drafts: Mapping[str, Draft], notes: Notes, *, used: bool, base: bool
) -> None:
    """Take a named context over: the target that the image stands on is its parent, all else are contexts."""
    what = f"{draft.where}: contexts: {name} = {value}"
    stages = {stage.name for stage in draft.dockerfile.stages}
    folder = PurePosixPath(value.removeprefix("./"))
    if not used and name not in stages:
        notes.changed.append(f"{what}: left out, since nothing that is built takes from it")
    elif name in stages:
        notes.left.append(f"{what}: it stands in for a stage of its Dockerfile; remove the stage there")
    elif value.startswith(TARGET) and value.removeprefix(TARGET) not in drafts:
        notes.left.append(f"{what}: that target is no tier")
    elif value.startswith(TARGET) and base and _may_be_a_stage(draft, name):
        draft.parent, draft.alias = drafts[value.removeprefix(TARGET)].name, name
    elif not _CONTEXT.fullmatch(name):
        notes.left.append(f"{what}: '{name}' cannot be the name of a context; call it otherwise in its Dockerfile")
    elif value.startswith(TARGET):
        draft.contexts[name] = {"tier": drafts[value.removeprefix(TARGET)].name}
    elif value.startswith(IMAGE):
        draft.contexts[name] = {"image": _tagged(value.removeprefix(IMAGE))}
    elif ":" in value or folder.is_absolute() or ".." in folder.parts or not folder.parts:
        notes.left.append(f"{what}: only images, targets and folders of this repository can be named contexts")
    else:
        draft.contexts[name] = {"path": f"//{folder}"}


def _may_be_a_stage(draft: Draft, name: str) -> bool:
    """Say whether a stage of that name may stand before all others, of which some Dockerfiles take one by its number."""
    instructions = (each for stage in draft.dockerfile.stages for each in stage.instructions)
    return _CONTEXT.fullmatch(name) is not None and not any(
        (each.flag("from") or "").isdecimal() for each in instructions
    )


def _marked_images(draft: Draft, stage: Stage, images: Collection[str], platform: str) -> Mapping[str, str]:
    """Return outside images with marks in the place of variables that they are made of: FROM python:${VERSION}."""
    marked = draft.marked.args if draft.marked is not None else {}
    args = {name: marked.get(name) or value for name, value in draft.args.items()}
    reading = Reading(draft.dockerfile, args, platform)
    try:
        found = reading.outside(reading.reach(stage))
    except (Unresolved, LexError):  # a variable chooses the stage
        return {}
    return dict(zip(images, found, strict=True)) if len(found) == len(images) else {}


def _outside(draft: Draft, image: str, marked: str, notes: Notes) -> None:
    """Name an outside image under `bases`, by the argument that is it, or by a new one; without a tag as a context."""
    for name, default in draft.dockerfile.global_words():
        if draft.args.get(name, default) == image and _tagged(image) == image:
            draft.args.pop(name, None)
            draft.bases[name] = image
            return
    if _tagged(image) == image:
        name = _argument(image, draft)
        draft.bases[name], draft.marked_bases[name] = image, marked
    elif _CONTEXT.fullmatch(image):
        draft.contexts[image] = {"image": _tagged(image)}
    else:
        notes.left.append(f"{draft.where}: the image {image} has no tag")


def _argument(name: str, draft: Draft) -> str:
    """Return a free name for the build argument of an outside image."""
    last = name.rpartition("/")[2].partition("@")[0].partition(":")[0]
    arg = re.sub(r"[^A-Z0-9]+", "_", last.upper()).strip("_")
    arg = f"BASE_{arg}" if not arg[:1].isalpha() or arg == "PARENT" else arg
    taken = {*draft.bases, *draft.target.args, *draft.dockerfile.declared_args()}
    while arg in taken:
        arg += "_IMAGE"
    return arg


def _tagged(image: str) -> str:
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


def _listed(draft: Draft, root: Path, path: PurePosixPath, notes: Notes) -> Iterator[str]:
    """Yield the lines of the manifest for what an instruction takes."""
    if str(path) == ".":
        entries = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir() if entry.name not in _OURS)
        yield from (f"//{entry}" for entry in entries)
        notes.left.append(
            f"{draft.where}: COPY . takes what images/{draft.folder}/{MANIFEST} lists, and not what is new in the root"
        )
    elif "*" in path.parts[0] or "?" in path.parts[0] or "[" in path.parts[0]:
        yield from (f"//{entry.name}" for entry in sorted(root.glob(path.parts[0])))
    else:
        yield f"//{path}"
    if (root / draft.target.context / ".dockerignore").exists():
        note = f"{draft.where}: .dockerignore: images/{draft.folder}/{MANIFEST} excludes with '!//PATH'"
        if note not in notes.left:
            notes.left.append(note)


def _prefixed(draft: Draft, prefix: str, notes: Notes) -> str:
    """Return the Dockerfile with its context's folder before each file that it copies: a tier's context is the repository."""
    lines = draft.text.split("\n")
    for stage in draft.dockerfile.stages:
        for instruction in stage.instructions:
            if instruction.keyword in {"COPY", "ADD"} and instruction.flag("from") is None:
                _prefix_line(lines, instruction, prefix)
    notes.changed.append(
        f"{draft.where}: files are copied from {prefix}/..., because a tier's context is the repository"
    )
    return "\n".join(lines)


def _prefix_line(lines: list[str], instruction: Instruction, prefix: str) -> None:
    number = instruction.line - 1
    keyword = re.match(r"\s*\S+(\s+--\S+)*", lines[number])
    at = keyword.end() if keyword else 0
    for word in instruction.words()[:-1]:
        if word.startswith("<<") or kind_of(word) is not SourceKind.PATH:
            continue
        while number < len(lines):
            found = re.compile(rf"(?<![^\s\"\[,]){re.escape(word)}(?![^\s\",\]])").search(lines[number], at)
            if found is not None:
                new = str(PurePosixPath(prefix) / word.lstrip("/")) + "/" * (word.endswith("/") and word != "/")
                lines[number] = lines[number][: found.start()] + new + lines[number][found.end() :]
                at = found.start() + len(new)
                break
            number, at = number + 1, 0
