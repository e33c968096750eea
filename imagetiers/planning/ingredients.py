"""What an image or its wheels are made from: the stages that run, and what these take. Of that the key documents. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from imagetiers.config.layout import DOCKERFILE
from imagetiers.config.model import ONLY_WHEELS, PARENT_ARG, REFRESH_ARG, Refresh
from imagetiers.dockerfile.context import Tree
from imagetiers.dockerfile.flags import quoted
from imagetiers.dockerfile.model import Instruction, Stage, stage_args
from imagetiers.dockerfile.reading import ContextUse
from imagetiers.dockerfile.render import render_dockerfile
from imagetiers.inputs.context import tree_of
from imagetiers.inputs.files import InputFile, input_file
from imagetiers.inputs.repository import TierInputs
from imagetiers.planning.keys import UNPINNED, KeyDocument
from imagetiers.planning.plan import Contexts, TakenFolder, in_repository

__all__ = [
    "compile_args",
    "compile_contexts",
    "compile_dockerfile",
    "compile_document",
    "compile_files",
    "compile_folders",
    "compiles_in_parent",
    "image_args",
    "image_contexts",
    "image_dockerfile",
    "image_document",
    "image_files",
    "image_folders",
    "instruction_lines",
    "refresh_epoch",
]


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
    inputs: TierInputs,
    platform: str,
    pins: Mapping[str, str],
    *,
    keys: Mapping[str, str],
    parent: str | None = None,
) -> KeyDocument:
    """Return what the wheels of a tier with a compile step are made from; `parent` is the key of what it compiles in, if that.

    `keys` are those of earlier tiers.

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
        secrets=_secrets(inputs),
        network=inputs.tier.network,
        run=step.run if step else (),
        outputs=step.outputs if step and step.outputs != ONLY_WHEELS else (),
        parent=parent,
        contexts=_taken_from(inputs, inputs.takes_from(stages), keys),
    )


def image_document(
    inputs: TierInputs,
    platform: str,
    pins: Mapping[str, str],
    *,
    keys: Mapping[str, str],
    wheels: str | None,
    epoch: str | None,
) -> KeyDocument:
    """Return what the image of a tier is made from, given the `keys` of earlier tiers and its wheels' compile key."""
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
        secrets=_secrets(inputs),
        network=inputs.tier.network,
        parent=keys[inputs.tier.parent] if inputs.tier.parent is not None else None,
        contexts=_taken_from(inputs, inputs.takes_from(stages, inputs.replaced), keys),
        labels=inputs.tier.labels,
        makes=_makes(inputs),
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


def compile_contexts(inputs: TierInputs, pins: Mapping[str, str]) -> Contexts:
    """Return what the compile stages take from by a name."""
    return _contexts(inputs, inputs.takes_from(compile_stages(inputs)), pins)


def image_contexts(inputs: TierInputs, pins: Mapping[str, str]) -> Contexts:
    """Return what the image's stages take from by a name."""
    return _contexts(inputs, inputs.takes_from(image_stages(inputs), inputs.replaced), pins)


def compile_files(inputs: TierInputs) -> tuple[InputFile, ...]:
    """Return the files that the compile stages take: these, and no others, are sent to build them."""
    return _taken(inputs, compile_stages(inputs))


def image_files(inputs: TierInputs) -> tuple[InputFile, ...]:
    """Return the listed files that the image's stages take: these, and no others, are sent to build it."""
    return _taken(inputs, image_stages(inputs))


def compile_folders(inputs: TierInputs) -> tuple[TakenFolder, ...]:
    """Return what the compile stages take from folders by a name."""
    return _folders(inputs, compile_stages(inputs))


def image_folders(inputs: TierInputs) -> tuple[TakenFolder, ...]:
    """Return what the image's stages take from folders by a name."""
    return _folders(inputs, image_stages(inputs))


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
    folders = {folder.name: folder.sent_as for folder in _folders(inputs, stages)}
    return render_dockerfile(
        inputs.reading, stages, lambda ref: folders.get(ref) or _pinned(ref, pins), parent=parent, padded=padded
    )


def _takes_dockerfile(inputs: TierInputs, stages: tuple[Stage, ...]) -> bool:
    """Say whether the Dockerfile itself, which lies in the build context, is taken by a `COPY . ` or the like."""
    tree = Tree({DOCKERFILE: None})
    uses = inputs.reading.context_uses(stages)
    return any(tree.take(use.source, use.patterns).paths for use in uses)


def _taken(inputs: TierInputs, stages: tuple[Stage, ...]) -> tuple[InputFile, ...]:
    return _among(inputs.files.files, inputs.reading.context_uses(stages))


def _folders(inputs: TierInputs, stages: tuple[Stage, ...]) -> tuple[TakenFolder, ...]:
    found = (
        TakenFolder(
            name, f"//{inputs.tier.contexts[name].path}", _among(files, inputs.reading.context_uses(stages, name))
        )
        for name, files in inputs.folders.items()
    )
    return tuple(folder for folder in found if folder.files)


def _among(files: tuple[InputFile, ...], uses: Iterable[ContextUse]) -> tuple[InputFile, ...]:
    tree = tree_of(files)
    paths: set[str] = set()
    for use in uses:
        paths |= tree.take(use.source, use.patterns).paths
    return tuple(file for file in files if file.path in paths)


def _files(inputs: TierInputs, stages: tuple[Stage, ...], pins: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    files = _taken(inputs, stages)
    if _takes_dockerfile(inputs, stages):
        files = (*files, input_file(DOCKERFILE, _dockerfile(inputs, stages, pins)))
    files = (*files, *in_repository(_folders(inputs, stages)))
    return tuple(sorted({(file.path, file.mode, file.sha256) for file in files}))


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


def _makes(inputs: TierInputs) -> str | None:
    """Return what is made in place of an image: a folder and a tar hold the same files."""
    output = inputs.tier.output
    return None if output is None else "oci" if output.runs else "files"


def _contexts(inputs: TierInputs, names: tuple[str, ...], pins: Mapping[str, str]) -> Contexts:
    given = {name: inputs.tier.contexts[name] for name in names}
    return Contexts(
        {name: context.tier for name, context in given.items() if context.tier is not None},
        {name: _pinned(context.image, pins) for name, context in given.items() if context.image is not None},
    )


def _taken_from(inputs: TierInputs, names: tuple[str, ...], keys: Mapping[str, str]) -> dict[str, str]:
    """Return what each named context is, as a key document has it. The digests of outside images are among the bases."""
    given = {name: inputs.tier.contexts[name] for name in names}
    return {
        name: keys[context.tier] if context.tier is not None else context.image or f"//{context.path}"
        for name, context in given.items()
    }


def _bases(inputs: TierInputs, stages: tuple[Stage, ...], pins: Mapping[str, str]) -> dict[str, str]:
    found = (inputs.outside_image(name) for name in inputs.reading.outside(stages, inputs.replaced))
    outside = {image for image in found if image is not None}
    named = set(inputs.tier.outside)
    if inputs.dockerfile.syntax is not None:
        outside.add(inputs.dockerfile.syntax)
        named.add(inputs.dockerfile.syntax)
    return {ref: _pin(ref, pins) for ref in sorted(outside) if ref in named}


def _secrets(inputs: TierInputs) -> tuple[str, ...]:
    return tuple(f"ssh:{secret.id}" if secret.ssh is not None else secret.id for secret in inputs.tier.secrets)


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
