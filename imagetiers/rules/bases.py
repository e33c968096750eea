"""Rules about what an image is built from."""

from __future__ import annotations

from collections.abc import Iterator

from imagetiers.dockerfile.model import Stage
from imagetiers.rules.rule import Rule, Severity, Spot
from imagetiers.rules.subject import Subject

__all__ = ["RULES"]

_CONDA = frozenset({"conda", "mamba", "micromamba"})
_CONDA_IMAGES = ("continuumio/", "condaforge/", "mambaorg/", "rapidsai/miniforge")
_INSTALLERS = ("miniconda", "miniforge", "mambaforge", "anaconda", "micromamba")
_TOOLCHAINS = frozenset({"buildpack-deps", "gcc", "golang", "rust", "maven", "gradle", "silkeh/clang"})


def _outside(subject: Subject, stage: Stage) -> str | None:
    """Return the outside image that a stage is FROM, None for a stage, another tier's image or scratch."""
    reference = subject.inputs.reading.references(stage)[0]
    return None if reference.stage is not None else subject.inputs.outside_image(reference.name)


def _split(reference: str) -> tuple[str, str, str]:
    """Return an image's name without its registry, its tag and its digest; what is not there is ''."""
    rest, _, digest = reference.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    host, slash, path = name.partition("/")
    named = slash and ("." in host or ":" in host or host == "localhost")
    return (path if named else name).removeprefix("library/"), tag, digest


def _conda(subject: Subject) -> Iterator[Spot]:
    for stage in subject.stages:
        image = _outside(subject, stage)
        if image is not None and _split(image)[0].startswith(_CONDA_IMAGES):
            yield stage.line, f"FROM {image} brings conda"
        for step in subject.steps(stage):
            for command in step.commands:
                if command.program in _CONDA:
                    yield step.line, f"{' '.join(command.words[:2])} installs with conda"
                    break
                if any("://" in word and any(name in word.lower() for name in _INSTALLERS) for word in command.words):
                    yield step.line, f"{command.program} fetches conda's installer"
                    break


def _mutable(subject: Subject) -> Iterator[Spot]:
    reading = subject.inputs.reading
    seen: set[str] = set()
    for stage in subject.stages:
        for reference in reading.references(stage):
            if reference.stage is not None or reference.name.lower() in subject.inputs.replaced:
                continue
            name = subject.inputs.outside_image(reference.name)
            if name is None or name in seen:
                continue
            seen.add(name)
            _, tag, digest = _split(name)
            if digest:
                continue
            if tag in {"", "latest"}:
                yield reference.line, f"{name} has {'no tag' if not tag else 'the tag latest'}, so any version may come"
            elif subject.shared and name not in subject.pins:
                yield reference.line, f"no digest pins {name}"


def _devel(subject: Subject) -> Iterator[Spot]:
    first = subject.shipped[0]
    image = _outside(subject, first)
    if image is None:
        return
    name, tag, _ = _split(image)
    if "devel" in tag.split("-"):
        yield first.line, f"the image stands on {image}, with compilers and headers in it"
    elif name in _TOOLCHAINS:
        yield first.line, f"the image stands on {image}, which is there to compile in"


RULES = (
    Rule(
        id="conda",
        severity=Severity.WARNING,
        title="conda in an image",
        why="a second Python, with a pip, setuptools and OpenSSL of its own, to be scanned and patched beside the first",
        fix="install Python from the distribution, and packages with pip into one virtual environment",
        look=_conda,
    ),
    Rule(
        id="mutable-base",
        severity=Severity.WARNING,
        title="an outside image that moves",
        why="the same key would be another image next month, on another machine, or after somebody has overwritten the tag",
        fix="name a version in bases:, then run doit lock, which pins its digest",
        look=_mutable,
    ),
    Rule(
        id="devel-base",
        severity=Severity.WARNING,
        title="an image that stands on a toolchain",
        why="compilers and headers are gigabytes that nobody runs, and the greater part of what a scanner finds",
        fix="compile in a stage of its own, and begin the last stage FROM a -runtime, -base or -slim image",
        look=_devel,
    ),
)
