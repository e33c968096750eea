"""Everything that the repository says, read once and checked as a whole: pipeline.yaml, Dockerfiles, manifests, files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagetiers.config.layout import DOCKERFILE, MANIFEST, PIPELINE_FILE, VERIFY_SCRIPT, Layout
from imagetiers.config.loader import Config, load_config
from imagetiers.config.matrix import fold
from imagetiers.config.model import ARCH_LIST_ARG, NOTHING_GIVEN, PARENT_ARG, REFRESH_ARG, Pipeline, Tier
from imagetiers.config.references import check_reference
from imagetiers.config.schema import cut
from imagetiers.dockerfile.context import Patterns, has_wildcard
from imagetiers.dockerfile.expand import LexError, Unresolved
from imagetiers.dockerfile.model import SCRATCH, Dockerfile, Stage, arg_words
from imagetiers.dockerfile.parser import parse_dockerfile
from imagetiers.dockerfile.reading import Reading, Reference
from imagetiers.dockerfile.sources import SourceKind, is_fixed_git
from imagetiers.errors import PipelineError, Problem
from imagetiers.inputs.agents import agent_problems
from imagetiers.inputs.files import InputFile
from imagetiers.inputs.made_files import made_file_problems
from imagetiers.inputs.named_contexts import Folders, folder_problems, named_context_problems
from imagetiers.inputs.outputs import output_problems
from imagetiers.inputs.snapshot import Snapshot, TierFiles, take_snapshot
from imagetiers.repository_file import Reads
from imagetiers.suggestions import did_you_mean

__all__ = ["Repository", "TierInputs", "load_repository"]

SYNTAX_ARG = "BUILDKIT_SYNTAX"  # BuildKit's own name for what `# syntax=` says; here it pins that image
_AUTOMATIC = frozenset({PARENT_ARG, REFRESH_ARG})
_FRONTEND = "BUILDKIT_"
_REFERENCE = "see docs.docker.com/reference/dockerfile"
_PLATFORM = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+){0,2}")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TierInputs:
    """A tier and all that was read for it.

    `args` are those of pipeline.yaml, the derived TORCH_CUDA_ARCH_LIST, and the commits of its sources; of one that
    nothing pins, the ref itself. `folders` are the files of the folders that are named contexts, by context.
    """

    tier: Tier
    files: TierFiles
    reading: Reading
    args: Mapping[str, str]
    folders: Mapping[str, tuple[InputFile, ...]] = field(default_factory=dict)

    @property
    def dockerfile(self) -> Dockerfile:
        """The tier's Dockerfile, parsed."""
        return self.reading.dockerfile

    @property
    def parent(self) -> str | None:
        """What the reading calls the parent's image, whose reference is known only in the plan."""
        return self.reading.args.get(PARENT_ARG) if self.tier.parent is not None else None

    @property
    def target(self) -> Stage:
        """The stage that becomes the image."""
        stage = self.dockerfile.stage(self.tier.target)
        assert stage is not None, "checked by load_repository"  # noqa: S101
        return stage

    @property
    def compile_stage(self) -> Stage:
        """The stage that the compile step runs; only for tiers that have one."""
        stage = self.dockerfile.stage(self.tier.compile.stage if self.tier.compile else None)
        assert stage is not None, "checked by load_repository"  # noqa: S101
        return stage

    def takes_from(self, stages: tuple[Stage, ...], replaced: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Return the names of the contexts that stages take from. Raises Unresolved."""
        outside = self.reading.outside(stages, replaced)
        return tuple(name for name in self.tier.contexts if name in outside)

    def outside_image(self, name: str) -> str | None:
        """Return the outside image that a reference means which is no stage's; None for a tier's image and scratch."""
        if name in self.tier.contexts:
            return self.tier.contexts[name].image
        return None if name in {self.parent, SCRATCH} else name

    def chain(self, stage: Stage) -> tuple[Stage, ...]:
        """Return a stage and those that it is FROM, the first one first."""
        base = self.reading.references(stage)[0].stage
        return (*(self.chain(base) if base is not None else ()), stage)

    @property
    def stands_on_parent(self) -> bool:
        """Whether the image has the layers of the parent's."""
        return self.parent is not None and self.reading.base_of(self.chain(self.target)[0]) == self.parent

    @property
    def replaced(self) -> frozenset[str]:
        """The stages that the finished wheels stand in for."""
        return frozenset({self.tier.compile.wheels_stage}) if self.tier.compile else frozenset()


@dataclass(frozen=True, slots=True)
class Repository:
    """The pipeline and its tiers' inputs; `variants` are the names that `doit variant=` takes.

    `marks` are the files that, once they are there, spare the next reading the check by the schema.
    """

    pipeline: Pipeline
    inputs: Mapping[str, TierInputs]
    variants: tuple[str, ...]
    marks: tuple[Path, ...]


def load_repository(
    layout: Layout, variant: str | None, reads: Reads | None = None, given: Mapping[str, str] = NOTHING_GIVEN
) -> Repository:
    """Read and check everything, with the variables `given`; `reads` notes what is looked at.

    Raises PipelineError with all problems, those of pipeline.yaml in line order first.
    """
    reads = Reads() if reads is None else reads
    config = load_config(layout, variant, reads, given)
    problems = sorted(config.problems, key=_line_order)
    files, missing = _snapshot(layout, config, reads)
    problems.extend(missing)
    problems.extend(made_file_problems(config.pipeline, files))
    inputs: dict[str, TierInputs] = {}
    folders = Folders(layout, reads, problems, config.place)
    parents = frozenset(tier.parent for tier in config.pipeline.tiers.values())
    for name, tier_files in files.items():
        tier = config.pipeline.tiers[name]
        problems.extend(_unchecked(config, tier, tier_files))
        try:
            dockerfile = parse_dockerfile(tier_files.dockerfile, tier.dockerfile_path)
        except PipelineError as error:
            problems.extend(error.problems)
            continue
        args = {**tier.args, **{arg: config.pipeline.commit(ref) or ref.ref for arg, ref in tier.sources.items()}}
        if config.pipeline.arch_list and ARCH_LIST_ARG in dockerfile.declared_args():
            args.setdefault(ARCH_LIST_ARG, config.pipeline.arch_list)
        stand_in = {} if tier.parent is None else {PARENT_ARG: f"{tier.parent}:parent"}
        reading = Reading(dockerfile, {**args, **tier.bases, **stand_in}, config.pipeline.platform)
        inputs[name] = TierInputs(tier, tier_files, reading, args, folders.of(tier))
        problems.extend(_dockerfile_problems(config, inputs[name], has_children=name in parents))
    PipelineError.raise_if(
        fold(dict.fromkeys(problems), config.expanded.families)
    )  # tiers of one folder have the same ones
    return Repository(config.pipeline, inputs, config.variants, config.marks)


def _snapshot(layout: Layout, config: Config, reads: Reads) -> tuple[Snapshot, list[Problem]]:
    """Read each tier on its own, so that one that is wrong hides nothing of the others."""
    problems: list[Problem] = []
    images = layout.tier("any").parent
    reads.look_at_kind(str(images))
    if not images.is_dir():  # told once, and not of each tier
        missing = f"there is no folder {images.name}/, in which the tiers' folders are"
        what = f"{images.name} is a file, but must be a folder" if images.exists() else missing
        return {}, [Problem(config.place("tiers"), what, f"make it, with a folder for each tier: {images.name}/NAME/")]
    found, wrong = take_snapshot(layout, config.pipeline.tiers.values(), reads)
    for name, error in wrong.items():
        path = ("tiers", name, "folder") if config.pipeline.tiers[name].folder is not None else ("tiers", name)
        problems += [
            problem if problem.where else Problem(config.place(*path), problem.what, problem.hint)
            for problem in error.problems
        ]
    return found, problems


def _unchecked(config: Config, tier: Tier, files: TierFiles) -> Iterator[Problem]:
    """Parameters that nobody reads would pass for checks that hold."""
    script = f"{tier.folder_path}/{VERIFY_SCRIPT}"
    params = json.loads(tier.verify.params)
    if params and files.verify is None:
        what = f"{', '.join(params)}: there is no {script} that reads this"
        hint = f"write {script}, which gets params as JSON, or remove them: the other keys of verify need no program"
        yield Problem(config.place("tiers", tier.name, "verify", "params"), what, hint)


def _line_order(problem: Problem) -> tuple[bool, int, int, str]:
    file, *parts = problem.where.split(":")
    numbers = [int(part) for part in parts[:2] if part.isascii() and part.isdigit()]
    return file != PIPELINE_FILE, numbers[0] if numbers else 0, numbers[1] if len(numbers) > 1 else 0, problem.where


def _dockerfile_problems(config: Config, inputs: TierInputs, *, has_children: bool) -> Iterator[Problem]:
    yield from _argument_problems(config, inputs)
    stages = list(_stage_problems(config, inputs))
    yield from stages
    if stages:
        return
    dockerfile = inputs.dockerfile
    try:
        imaged = inputs.reading.reach(inputs.target)
        compiled = inputs.reading.reach(inputs.compile_stage) if inputs.tier.compile is not None else ()
        reached = tuple(sorted({*imaged, *compiled}, key=lambda stage: stage.index))
        yield from _reference_problems(inputs, reached)
        yield from named_context_problems(
            inputs.tier,
            dockerfile,
            inputs.takes_from(reached),
            inputs.reading.base_of(inputs.chain(inputs.target)[0]),
            lambda name: config.place("tiers", inputs.tier.name, "contexts", name),
        )
        yield from _unneeded_problems(inputs, reached)
        yield from _tier_problems(config, inputs, reached, has_children=has_children)
        yield from _remote_problems(inputs, reached)
        yield from _context_problems(inputs, reached)
        yield from folder_problems(inputs.reading, reached, inputs.folders)
        yield from agent_problems(inputs.tier, dockerfile, reached)
        if inputs.tier.compile is not None:
            yield from output_problems(config, inputs.tier, inputs.tier.compile, dockerfile, imaged)
    except Unresolved as name:
        hint = f"give it a default in the Dockerfile, or a value under tiers.{inputs.tier.name}.args"
        yield Problem(f"{dockerfile.name}:{name.line}", f"the argument {name} has no value that is known here", hint)
    except LexError as error:
        yield Problem(f"{dockerfile.name}:{error.line}", str(error), error.hint or _REFERENCE)


def _argument_problems(config: Config, inputs: TierInputs) -> Iterator[Problem]:
    tier, dockerfile = inputs.tier, inputs.dockerfile
    declared = dockerfile.declared_args()
    literal = _literal_images(inputs)
    for section, given in (("args", tier.args), ("bases", tier.bases), ("sources", tier.sources)):
        for name in given:
            where = config.place("tiers", tier.name, section, name)
            if name.startswith(_FRONTEND):
                if section != "bases" or name != SYNTAX_ARG:
                    yield Problem(where, f"{name} is an argument of BuildKit itself, which no key covers", "remove it")
            elif name not in declared and (section != "bases" or tier.bases[name] not in literal):
                known = did_you_mean(name, declared - _AUTOMATIC, "it declares")
                yield Problem(where, f"{dockerfile.name} declares no ARG {cut(name)}", known)
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            names = (
                [name for name, _ in arg_words(instruction, dockerfile.escape)] if instruction.keyword == "ARG" else []
            )
            if PARENT_ARG in names and tier.parent is not None:
                what = f"the stage '{stage.label}' declares {PARENT_ARG}, whose value is another on each machine"
                yield Problem(
                    f"{dockerfile.name}:{instruction.line}", what, f"declare ARG {PARENT_ARG} only before FROM"
                )
    if dockerfile.syntax is not None:
        yield from _syntax_problems(dockerfile, tier)


def _literal_images(inputs: TierInputs) -> set[str]:
    """Return the outside images that the Dockerfile names, with or without an argument."""
    try:
        return set(inputs.reading.outside(inputs.dockerfile.stages))
    except Unresolved:
        return set()  # is reported elsewhere
    except LexError:  # is reported elsewhere; which images the file names, nobody can say
        return set(inputs.tier.bases.values())


def _syntax_problems(dockerfile: Dockerfile, tier: Tier) -> Iterator[Problem]:
    """A `# syntax=` image decides what the whole file means: only Docker's own reads it as we do."""
    syntax = dockerfile.syntax or ""
    where = f"{dockerfile.name}:1"
    name = syntax.partition("@")[0].partition(":")[0].removeprefix("docker.io/")
    if name != "docker/dockerfile":
        yield Problem(
            where, f"# syntax={syntax} may read this file otherwise than we do", "only docker/dockerfile can be used"
        )
    elif "@" not in syntax and syntax not in tier.bases.values():
        hint = f"remove the line, pin it (…@sha256:…), or name it under tiers.{tier.name}: bases: {{{SYNTAX_ARG}: '{syntax}'}}"
        yield Problem(
            where, f"# syntax={syntax} is not named in pipeline.yaml, so it can be neither pinned nor keyed", hint
        )


def _stage_problems(config: Config, inputs: TierInputs) -> Iterator[Problem]:
    tier, dockerfile = inputs.tier, inputs.dockerfile
    names = [stage.name for stage in dockerfile.stages if stage.name]
    wanted: list[tuple[tuple[str, ...], str | None]] = [(("target",), tier.target)]
    if tier.compile is not None:
        wanted += [(("compile", "stage"), tier.compile.stage), (("compile", "wheels_stage"), tier.compile.wheels_stage)]
    for path, name in wanted:
        if name is not None and dockerfile.stage(name) is None:
            where = config.place("tiers", tier.name, *path)
            yield Problem(
                where, f"{dockerfile.name} has no stage '{cut(name)}'", did_you_mean(name, names, "its stages")
            )


def _reference_problems(inputs: TierInputs, reached: tuple[Stage, ...]) -> Iterator[Problem]:
    """Hold what the stages take from elsewhere against the earlier stages and the images that the pipeline names."""
    tier, dockerfile = inputs.tier, inputs.dockerfile
    expected = {*tier.bases.values(), *tier.contexts, inputs.parent, SCRATCH}
    seen: set[str] = set()
    for stage in reached:
        for reference in inputs.reading.references(stage):
            name = reference.name
            if reference.stage is not None or name in expected or name in seen:
                continue
            seen.add(name)
            where = f"{dockerfile.name}:{reference.line}"
            later = dockerfile.stage(name)
            if name.isdecimal():
                yield Problem(
                    where, f"there is no stage {name} before this one", "stages count from 0; better use their names"
                )
            elif later is not None:
                what = "is this very stage" if later is stage else f"stands only in line {later.line}"
                yield Problem(where, f"the stage '{name}' {what}", "a stage can only take from stages before it")
            else:
                yield _outside_problem(dockerfile, stage, tier, reference, where)


def _unneeded_problems(inputs: TierInputs, reached: tuple[Stage, ...]) -> Iterator[Problem]:
    """BuildKit also reads what a stage is made from that it does not run, and builds nothing where that means nothing.

    An argument without a value is passed over: one Dockerfile may serve several variants. Raises LexError.
    """
    dockerfile = inputs.dockerfile
    for stage in dockerfile.stages:
        if stage in reached:
            continue
        try:
            references = inputs.reading.references(stage)
            platform = inputs.reading.platform_of(stage)
        except Unresolved:
            continue
        if platform is not None and not _PLATFORM.fullmatch(platform):
            yield Problem(
                f"{dockerfile.name}:{stage.line}", f"'{cut(platform)}' is not a platform", "such as linux/amd64"
            )
        for reference in references:
            where = f"{dockerfile.name}:{reference.line}"
            wrong = None if reference.stage is not None else check_reference(reference.name)
            if reference.stage is None and stage.name and reference.name.lower() == stage.name:
                yield Problem(
                    where, f"the stage '{stage.name}' is this very stage", "a stage can only take from stages before it"
                )
            elif wrong is not None and reference.name != SCRATCH:
                yield Problem(where, f"the image {cut(reference.name)}: {wrong[0]}", wrong[1])


def _outside_problem(dockerfile: Dockerfile, stage: Stage, tier: Tier, reference: Reference, where: str) -> Problem:
    image = reference.name
    earlier = [other.name for other in dockerfile.stages[: stage.index] if other.name]
    close = did_you_mean(image.lower(), [*earlier, *tier.contexts], "its stages")
    if close.startswith("did you mean"):
        return Problem(where, f"there is no stage '{image}'", close)
    wrong = check_reference(image)
    if wrong is not None:
        return Problem(where, f"the image {cut(image)}: {wrong[0]}", wrong[1])
    hint = f"ARG BASE, FROM ${{BASE}}, and under tiers.{tier.name}: bases: {{BASE: '{image}'}}"
    what = f"the outside image {image} is not named in pipeline.yaml, so it can be neither pinned nor keyed"
    return Problem(where, what, hint)


def _tier_problems(
    config: Config, inputs: TierInputs, reached: tuple[Stage, ...], *, has_children: bool
) -> Iterator[Problem]:
    tier, dockerfile, reading = inputs.tier, inputs.dockerfile, inputs.reading
    if inputs.parent is not None and inputs.parent not in reading.outside(reached):
        where = config.place("tiers", tier.name, "parent")
        yield Problem(where, f"{dockerfile.name} is not built FROM its parent", "ARG PARENT, then FROM ${PARENT}")
    bases = {reading.references(stage)[0].stage for stage in reached}
    for stage in reached:
        for instruction in stage.instructions:
            if instruction.keyword == "ONBUILD" and (stage in bases or (has_children and stage == inputs.target)):
                what = "ONBUILD would run in another build, of whose key it is no part"
                yield Problem(f"{dockerfile.name}:{instruction.line}", what, "write the instruction where it shall run")


def _remote_problems(inputs: TierInputs, reached: tuple[Stage, ...]) -> Iterator[Problem]:
    """What lies elsewhere must be named so that it is always the same."""
    for use in inputs.reading.remote_uses(reached):
        where = f"{inputs.dockerfile.name}:{use.line}"
        if use.kind is SourceKind.GIT and not is_fixed_git(use.source):
            what = f"the repository {use.source} is not named by a commit, so what it holds is in no key"
            yield Problem(
                where, what, "ADD …#COMMIT with all 40 digits; tiers.*.sources pins a branch or tag as an ARG"
            )
        elif use.kind is SourceKind.URL and _CHECKSUM.fullmatch(use.checksum or "") is None:
            what = f"{use.source} has no checksum, so what it holds is in no key"
            yield Problem(where, what, "ADD --checksum=sha256:… URL DESTINATION")


def _context_problems(inputs: TierInputs, reached: tuple[Stage, ...]) -> Iterator[Problem]:
    """Hold what the Dockerfile takes from the context against what the manifest lists."""
    listed, everything = inputs.files.tree(), inputs.files.tree(with_unlisted=True)
    hidden = set(inputs.files.unlisted)
    manifest = f"{inputs.tier.folder_path}/{MANIFEST}"
    for use in inputs.reading.context_uses(reached):
        where = f"{inputs.dockerfile.name}:{use.line}"
        try:
            taken = listed.take(use.source, use.patterns)
            unlisted = sorted(everything.take(use.source, use.patterns).paths & hidden)
        except LexError as error:
            yield Problem(where, f"{use.keyword}: {error}", error.hint or _REFERENCE)
            continue
        if unlisted:
            shown = ", ".join(unlisted[:3]) + (f" and {len(unlisted) - 3} more" if len(unlisted) > 3 else "")  # noqa: PLR2004
            hint = f"add it to {manifest}, or exclude it there with '!{unlisted[0]}'"
            yield Problem(where, f"{use.keyword} takes {shown}, which the manifest does not list", hint)
        elif taken.missing:
            what = f"{use.keyword} takes {use.source} through a link to {taken.missing[0]}, which the manifest does not list"
            yield Problem(where, what, f"add {taken.missing[0]} to {manifest}, or correct the link")
        elif use.source == DOCKERFILE:
            yield Problem(
                where, f"{use.keyword} takes the {DOCKERFILE} itself, of which BuildKit gets only a part", "copy a file"
            )
        elif not taken.paths and not (use.source == "." and use.patterns is Patterns.NONE):
            what = f"{use.keyword} takes {use.source}, which does not exist"
            if has_wildcard(use.source) and use.patterns is not Patterns.NONE:
                what = f"{use.keyword} takes {use.source}, which matches nothing"
            yield Problem(where, what, "correct the path, or add the file")
