"""Everything that the repository says, read once and checked as a whole: pipeline.yaml, Dockerfiles, manifests, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from imagetiers.config import Config, load_config
from imagetiers.dockerfile import Dockerfile, Stage, Unresolved
from imagetiers.dockerparse import parse_dockerfile
from imagetiers.errors import PipelineError, Problem
from imagetiers.layout import DOCKERFILE, MANIFEST, Layout
from imagetiers.model import Pipeline, Tier
from imagetiers.schema import did_you_mean
from imagetiers.snapshot import ManifestLine, TierFiles, take_snapshot

__all__ = ["ARCH_LIST_ARG", "PARENT_ARG", "REFRESH_ARG", "Repository", "TierInputs", "load_repository"]

PARENT_ARG = "PARENT"
ARCH_LIST_ARG = "TORCH_CUDA_ARCH_LIST"
REFRESH_ARG = "REFRESH_EPOCH"
_AUTOMATIC = frozenset({PARENT_ARG, REFRESH_ARG})


@dataclass(frozen=True, slots=True)
class TierInputs:
    """A tier and all that was read for it.

    `args` are those of pipeline.yaml, the derived TORCH_CUDA_ARCH_LIST, and the commits of its sources; of one that
    nothing pins, the ref itself.
    """

    tier: Tier
    files: TierFiles
    dockerfile: Dockerfile
    args: Mapping[str, str]

    @property
    def references(self) -> dict[str, str]:
        """The arguments with stand-ins for what is known only in the plan: enough to follow the stages."""
        references = {**self.args, **self.tier.bases}
        if self.tier.parent is not None:
            references[PARENT_ARG] = f"{self.tier.parent}:parent"
        return references

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

    @property
    def replaced(self) -> frozenset[str]:
        """The stages that the finished wheels stand in for."""
        return frozenset({self.tier.compile.wheels_stage}) if self.tier.compile else frozenset()


@dataclass(frozen=True, slots=True)
class Repository:
    """The pipeline and its tiers' inputs; `variants` are the names that `doit variant=` takes."""

    pipeline: Pipeline
    inputs: Mapping[str, TierInputs]
    variants: tuple[str, ...]


def load_repository(layout: Layout, variant: str | None) -> Repository:
    """Read and check everything. Raises PipelineError with all problems, those of pipeline.yaml in line order first."""
    config = load_config(layout, variant)
    problems = sorted(config.problems, key=_line_order)
    files, missing = _snapshot(layout, config)
    problems.extend(missing)
    inputs: dict[str, TierInputs] = {}
    for name, tier_files in files.items():
        tier = config.pipeline.tiers[name]
        shown = f"images/{name}/{DOCKERFILE}"
        try:
            dockerfile = parse_dockerfile(tier_files.dockerfile, shown)
        except PipelineError as error:
            problems.extend(error.problems)
            continue
        args = {**tier.args, **{arg: config.pipeline.commit(ref) or ref.ref for arg, ref in tier.sources.items()}}
        if config.pipeline.arch_list and ARCH_LIST_ARG in dockerfile.declared_args():
            args.setdefault(ARCH_LIST_ARG, config.pipeline.arch_list)
        inputs[name] = TierInputs(tier, tier_files, dockerfile, args)
        problems.extend(_dockerfile_problems(config, inputs[name]))
    PipelineError.raise_if(problems)
    return Repository(config.pipeline, inputs, config.variants)


def _snapshot(layout: Layout, config: Config) -> tuple[dict[str, TierFiles], list[Problem]]:
    """Read each tier on its own, so that one that is wrong hides nothing of the others."""
    found: dict[str, TierFiles] = {}
    problems: list[Problem] = []
    for name in config.pipeline.tiers:
        try:
            found.update(take_snapshot(layout, [name]))
        except PipelineError as error:
            for problem in error.problems:
                at_pipeline = problem.where == f"tiers.{name}"
                where = config.place("tiers", name) if at_pipeline else problem.where
                problems.append(Problem(where, problem.what, problem.hint))
    return found, problems


def _line_order(problem: Problem) -> tuple[int, int]:
    parts = problem.where.split(":")
    numbers = [int(part) for part in parts[1:3] if part.isdigit()]
    return (numbers[0] if numbers else 0, numbers[1] if len(numbers) > 1 else 0)


def _dockerfile_problems(config: Config, inputs: TierInputs) -> Iterator[Problem]:
    tier, dockerfile = inputs.tier, inputs.dockerfile
    declared = dockerfile.declared_args()
    for section, given in (("args", tier.args), ("bases", tier.bases), ("sources", tier.sources)):
        for name in given:
            if name not in declared:
                where = config.place("tiers", tier.name, section, name)
                known = did_you_mean(name, declared - _AUTOMATIC, "it declares")
                yield Problem(where, f"{dockerfile.name} declares no ARG {name}", known)
    stages = list(_stage_problems(config, inputs))
    yield from stages
    if stages:
        return
    try:
        reached = dockerfile.reach(inputs.target, inputs.references)
        yield from _outside_problems(config, inputs, reached)
        yield from _context_problems(inputs, reached)
    except Unresolved as name:
        hint = f"give it a default in the Dockerfile, or a value under tiers.{tier.name}.args"
        yield Problem(dockerfile.name, f"the argument {name} has no value, so its stages cannot be followed", hint)


def _stage_problems(config: Config, inputs: TierInputs) -> Iterator[Problem]:
    tier, dockerfile = inputs.tier, inputs.dockerfile
    names = [stage.name for stage in dockerfile.stages if stage.name]
    wanted: list[tuple[tuple[str, ...], str | None]] = [(("target",), tier.target)]
    if tier.compile is not None:
        wanted += [(("compile", "stage"), tier.compile.stage), (("compile", "wheels_stage"), tier.compile.wheels_stage)]
    for path, name in wanted:
        if name is not None and dockerfile.stage(name) is None:
            where = config.place("tiers", tier.name, *path)
            yield Problem(where, f"{dockerfile.name} has no stage '{name}'", did_you_mean(name, names, "its stages"))


def _outside_problems(config: Config, inputs: TierInputs, reached: tuple[Stage, ...]) -> Iterator[Problem]:
    tier, dockerfile = inputs.tier, inputs.dockerfile
    references = inputs.references
    outside = dockerfile.outside(reached, references)
    expected = set(tier.bases.values()) | {references.get(PARENT_ARG)}
    for image, line in outside.items():
        if image not in expected:
            hint = f"ARG BASE, FROM ${{BASE}}, and under tiers.{tier.name}: bases: {{BASE: '{image}'}}"
            what = f"the outside image {image} is not named in pipeline.yaml, so it can be neither pinned nor keyed"
            yield Problem(f"{dockerfile.name}:{line}", what, hint)
    if tier.parent is not None and references[PARENT_ARG] not in outside:
        where = config.place("tiers", tier.name, "parent")
        yield Problem(where, f"{dockerfile.name} is not built FROM its parent", "ARG PARENT, then FROM ${PARENT}")
    if tier.compile is not None:
        wheels = dockerfile.stage(tier.compile.wheels_stage)
        if wheels not in reached:
            where = config.place("tiers", tier.name, "compile")
            what = f"nothing in the image takes the wheels from the stage '{tier.compile.wheels_stage}'"
            yield Problem(where, what, f"RUN --mount=type=bind,from={tier.compile.wheels_stage},target=/wheels ...")


def _context_problems(inputs: TierInputs, reached: tuple[Stage, ...]) -> Iterator[Problem]:
    """Hold what the Dockerfile takes from the context against what the manifest lists."""
    listed = [file.path for file in inputs.files.files]
    manifest = f"images/{inputs.tier.name}/{MANIFEST}"
    for use in inputs.dockerfile.context_uses(reached, inputs.references):
        where = f"{inputs.dockerfile.name}:{use.line}"
        source = ManifestLine(use.line, "**" if use.source == "." else use.source)
        found = any(source.matches(path) for path in listed)
        unlisted = [path for path in inputs.files.unlisted if source.matches(path)]
        if unlisted:
            shown = ", ".join(unlisted[:3]) + (f" and {len(unlisted) - 3} more" if len(unlisted) > 3 else "")  # noqa: PLR2004
            hint = f"add it to {manifest}, or exclude it there with '!{unlisted[0]}'"
            yield Problem(where, f"{use.keyword} takes {shown}, which the manifest does not list", hint)
        elif not found and not (use.source == "." and use.keyword == "RUN --mount"):
            yield Problem(
                where, f"{use.keyword} takes {use.source}, which does not exist", "correct the path, or add the file"
            )
