"""A bake file as a pipeline: a tier for each target, and a list of all that a pipeline cannot say. Reads, writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from imagetiers.bake.evaluate import Outline
from imagetiers.bake.model import BakeFile, BakeTarget
from imagetiers.config.layout import DOCKERFILE, MANIFEST, PIPELINE_FILE
from imagetiers.dockerfile.expand import LexError, Unresolved
from imagetiers.dockerfile.model import Dockerfile, Instruction
from imagetiers.dockerfile.parser import parse_dockerfile
from imagetiers.dockerfile.reading import Reading
from imagetiers.dockerfile.sources import SourceKind, kind_of
from imagetiers.errors import PipelineError
from imagetiers.scaffold.files import NewFile

__all__ = ["Port", "port"]

_NETWORKS = ("none", "host")
_PLATFORMS = ("linux/amd64", "linux/arm64")
_STAGE = re.compile(r"[a-z][a-z0-9_.-]*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE, _TARGET = "docker-image://", "target:"
# What lies in the repository's root and is never meant by `COPY .`.
_OURS = (".git", ".imagetiers", ".gitignore", ".dockerignore", "dodo.py", "images", PIPELINE_FILE)
_HEADER = """\
# yaml-language-server: $schema=.imagetiers/pipeline.schema.json
# From {source}, by imagetiers init --from-bake.
"""


@dataclass(frozen=True, slots=True)
class Port:
    """The files of the pipeline, what of the bake file is not in them, and what is said otherwise there."""

    files: tuple[NewFile, ...]
    left: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(slots=True)
class _Notes:
    """What is found on the way."""

    left: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Tier:
    """A target on its way to a tier."""

    name: str
    target: BakeTarget
    text: str
    dockerfile: Dockerfile
    parent: str | None = None
    aliases: list[tuple[str, str]] = field(default_factory=list)  # a stage's name, and the ARG that it is FROM
    bases: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    manifest: list[str] = field(default_factory=list)


def port(bake: BakeFile, outline: Outline, root: Path, source: str, pipeline: str) -> Port:
    """Return the pipeline called `pipeline` for a bake file `source`, whose contexts are relative to `root`.

    A target that others inherit from is no tier when no group and no context names it. Raises PipelineError when nothing of
    it can be a tier.
    """
    notes = _Notes()
    if outline.variables:
        notes.changed.append(f"variables: the values that they have now are written: {', '.join(outline.variables)}")
    wanted = list(_wanted(bake, outline.inherited, notes))
    names = _names(wanted, notes)
    tiers: dict[str, _Tier] = {}
    for target in _parents_first(wanted):
        made = _tier(target, names, tiers, root, notes)
        if made is not None:
            tiers[target.name] = made
    if not tiers:
        raise PipelineError.of(source, "no target of it can be a tier", "; ".join(notes.left))
    platform = _platform(list(tiers.values()), notes)
    for tier in tiers.values():
        _read_dockerfile(tier, root, platform or _PLATFORMS[0], notes)
    given: dict[str, Any] = {"version": 1, "name": pipeline, "registry": None, "cache": ".imagetiers/cache"}
    if platform is not None:
        given["platform"] = platform
    given["tiers"] = {tier.name: _settings(tier, notes) for tier in tiers.values()}
    groups = [
        f"# group {name}: doit {' '.join(f'verify:{tier.name}' for each, tier in tiers.items() if each in members)}\n"
        for name, members in sorted(bake.groups.items())
        if not members.isdisjoint(tiers) and members != set(tiers)
    ]
    text = _HEADER.format(source=source) + "".join(groups)
    text += "".join(f"# not ported: {line}\n" for line in notes.left)
    text += yaml.dump(given, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    files = [NewFile(PIPELINE_FILE, text.encode())]
    for tier in tiers.values():
        folder = f"images/{tier.name}"
        files.append(NewFile(f"{folder}/{DOCKERFILE}", _with_aliases(tier).encode()))
        files.append(NewFile(f"{folder}/{MANIFEST}", "".join(f"{line}\n" for line in tier.manifest).encode()))
    return Port(tuple(files), tuple(notes.left), tuple(notes.changed))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  PyYAML's signature
        return True


def _wanted(bake: BakeFile, inherited: frozenset[str], notes: _Notes) -> Iterator[BakeTarget]:
    named = {each for members in bake.groups.values() for each in members}
    named |= {value.removeprefix(_TARGET) for target in bake.targets.values() for value in target.contexts.values()}
    for name, target in bake.targets.items():
        if name in inherited and name not in named:
            notes.left.append(f"target {name}: only inherited from, so it is no tier; its heirs have what it says")
        else:
            yield target


def _names(targets: list[BakeTarget], notes: _Notes) -> dict[str, str]:
    """Return the names of tiers by those of targets."""
    names: dict[str, str] = {}
    for target in targets:
        name = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")[:50] or "tier"
        free = name
        for number in range(2, len(targets) + 2):
            if free not in names.values():
                break
            free = f"{name}-{number}"
        names[target.name] = free
        if free != target.name:
            notes.changed.append(f"target {target.name}: the tier is called {free}")
    return names


def _parents_first(targets: list[BakeTarget]) -> list[BakeTarget]:
    by_name = {target.name: target for target in targets}
    done: dict[str, BakeTarget] = {}

    def visit(target: BakeTarget, above: frozenset[str]) -> None:
        for value in target.contexts.values():
            parent = by_name.get(value.removeprefix(_TARGET)) if value.startswith(_TARGET) else None
            if parent is not None and parent.name not in above:
                visit(parent, above | {parent.name})
        done.setdefault(target.name, target)

    for target in targets:
        visit(target, frozenset({target.name}))
    return list(done.values())


def _tier(
    target: BakeTarget, names: Mapping[str, str], tiers: Mapping[str, _Tier], root: Path, notes: _Notes
) -> _Tier | None:
    where = f"target {target.name}"
    place = PurePosixPath(target.context)
    if "://" in target.context or place.is_absolute() or ".." in place.parts:
        notes.left.append(f"{where}: no tier, because its context {target.context} is not a folder of this repository")
        return None
    path = root / target.context / target.dockerfile
    try:
        text = path.read_text(encoding="utf-8") if target.inline is None else target.inline
        dockerfile = parse_dockerfile(text.encode(), f"images/{names[target.name]}/{DOCKERFILE}")
    except (OSError, UnicodeDecodeError) as error:
        notes.left.append(f"{where}: no tier, because {target.dockerfile} cannot be read ({type(error).__name__})")
        return None
    except PipelineError as error:
        notes.left.append(f"{where}: no tier, because of its Dockerfile: {error.problems[0].what}")
        return None
    tier = _Tier(names[target.name], target, text, dockerfile)
    _contexts(tier, tiers, notes)
    notes.left += [f"{where}: {key}: {_shown(value)}" for key, value in target.rest.items()]
    return tier


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _contexts(tier: _Tier, tiers: Mapping[str, _Tier], notes: _Notes) -> None:
    """Make a stage of each named context that is an image, so that FROM and --from=... may stay as they are."""
    where = f"target {tier.target.name}"
    stages = {stage.name for stage in tier.dockerfile.stages}
    numbered = any(
        (each.flag("from") or "").isdecimal() for stage in tier.dockerfile.stages for each in stage.instructions
    )
    for name, value in tier.target.contexts.items():
        what = f"{where}: contexts: {name} = {value}"
        if not _STAGE.fullmatch(name) or name in stages:
            notes.left.append(f"{what}: '{name}' cannot be the name of a stage")
        elif numbered:
            notes.left.append(f"{what}: its Dockerfile counts stages (--from=0); give them names")
        elif value.startswith(_TARGET):
            parent = tiers.get(value.removeprefix(_TARGET))
            if parent is None:
                notes.left.append(f"{what}: that target is no tier")
            elif tier.parent is not None:
                notes.left.append(f"{what}: a tier has one parent, and {tier.parent} is it")
            else:
                tier.parent = parent.name
                tier.aliases.append((name, "PARENT"))
        elif value.startswith(_IMAGE):
            arg = _argument(name, tier)
            tier.bases[arg] = _tagged(value.removeprefix(_IMAGE))
            tier.aliases.append((name, arg))
        else:
            notes.left.append(f"{what}: only images and targets can be named contexts")


def _argument(name: str, tier: _Tier) -> str:
    """Return a free name for the build argument of an outside image."""
    last = name.rpartition("/")[2].partition("@")[0].partition(":")[0]
    arg = re.sub(r"[^A-Z0-9]+", "_", last.upper()).strip("_")
    arg = f"BASE_{arg}" if not arg[:1].isalpha() or arg == "PARENT" else arg
    taken = {*tier.bases, *tier.target.args, *tier.dockerfile.declared_args()}
    while arg in taken:
        arg += "_IMAGE"
    return arg


def _tagged(image: str) -> str:
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


def _platform(tiers: list[_Tier], notes: _Notes) -> str | None:
    """Return the one platform of all tiers, None where nobody says one."""
    said = list(dict.fromkeys(platform for tier in tiers for platform in tier.target.platforms))
    if len(said) == 1 and said[0] in _PLATFORMS:
        return said[0]
    known = [platform for platform in said if platform in _PLATFORMS]
    if said:
        notes.left.append(f"platforms: {', '.join(said)}: a pipeline has one, which is {(known or _PLATFORMS)[0]}")
    return known[0] if known else None


def _read_dockerfile(tier: _Tier, root: Path, platform: str, notes: _Notes) -> None:
    """Find out which outside images, arguments and files the Dockerfile takes."""
    where = f"target {tier.target.name}"
    _arguments(tier, notes)
    reading = Reading(tier.dockerfile, tier.args, platform)
    stage = tier.dockerfile.stage(tier.target.target)
    if stage is None:
        notes.left.append(f"{where}: target: its Dockerfile has no stage {tier.target.target}")
        return
    try:
        stages = reading.reach(stage)
        images = reading.outside(stages)
        uses = tuple(reading.context_uses(stages))
    except (Unresolved, LexError) as error:
        notes.left.append(f"{where}: its Dockerfile: {error} has no value that is known here")
        return
    for image in images:
        if image not in tier.target.contexts:  # what that is, is known; or listed, and then `doit check` names the line
            _outside(tier, image, notes)
    prefix = PurePosixPath(tier.target.context)
    if tier.target.inline is None and str(prefix) != ".":
        tier.text = _prefixed(tier, str(prefix), notes)
        if any(use.keyword not in {"COPY", "ADD"} for use in uses):
            notes.left.append(f"{where}: RUN --mount takes files of {prefix}/: write {prefix}/ before its source")
    for source in dict.fromkeys(use.source for use in uses):
        lines = _listed(tier, root, prefix / source.lstrip("/"), notes)
        tier.manifest += [line for line in lines if line not in tier.manifest]


def _arguments(tier: _Tier, notes: _Notes) -> None:
    declared = tier.dockerfile.declared_args()
    for name, value in tier.target.args.items():
        where = f"target {tier.target.name}: args: {name}"
        if value is None:
            notes.left.append(f"{where} comes from bake's environment; write its value")
        elif name not in declared or name.startswith("BUILDKIT_"):
            notes.left.append(f"{where}: {value}: its Dockerfile declares no ARG of that name")
        else:
            tier.args[name] = value


def _outside(tier: _Tier, image: str, notes: _Notes) -> None:
    """Name an outside image under `bases`, by the argument that is it, or by a new one."""
    for name, default in tier.dockerfile.global_words():
        if tier.args.get(name, default) == image and _tagged(image) == image:
            tier.args.pop(name, None)
            tier.bases[name] = image
            return
    arg = _argument(image, tier)
    if _tagged(image) == image:
        tier.bases[arg] = image
    elif _STAGE.fullmatch(image) and image not in {stage.name for stage in tier.dockerfile.stages}:
        tier.bases[arg] = _tagged(image)
        tier.aliases.append((image, arg))
    else:
        notes.left.append(f"target {tier.target.name}: the image {image} has no tag")


def _listed(tier: _Tier, root: Path, path: PurePosixPath, notes: _Notes) -> Iterator[str]:
    """Yield the lines of the manifest for what an instruction takes."""
    if str(path) == ".":
        entries = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir() if entry.name not in _OURS)
        yield from (f"//{entry}" for entry in entries)
        notes.left.append(
            f"target {tier.target.name}: COPY . takes what images/{tier.name}/{MANIFEST} lists, and not what is new in the root"
        )
    elif "*" in path.parts[0] or "?" in path.parts[0] or "[" in path.parts[0]:
        yield from (f"//{entry.name}" for entry in sorted(root.glob(path.parts[0])))
    else:
        yield f"//{path}"
    if (root / tier.target.context / ".dockerignore").exists():
        note = f"target {tier.target.name}: .dockerignore: images/{tier.name}/{MANIFEST} excludes with '!//PATH'"
        if note not in notes.left:
            notes.left.append(note)


def _prefixed(tier: _Tier, prefix: str, notes: _Notes) -> str:
    """Return the Dockerfile with its context's folder before each file that it copies: a tier's context is the repository."""
    lines = tier.text.split("\n")
    for stage in tier.dockerfile.stages:
        for instruction in stage.instructions:
            if instruction.keyword in {"COPY", "ADD"} and instruction.flag("from") is None:
                _prefix_line(lines, instruction, prefix)
    notes.changed.append(
        f"target {tier.target.name}: files are copied from {prefix}/..., because a tier's context is the repository"
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


def _settings(tier: _Tier, notes: _Notes) -> dict[str, Any]:
    """Return what pipeline.yaml says of a tier."""
    where = f"target {tier.target.name}"
    given: dict[str, Any] = {}
    if tier.parent is not None:
        given["parent"] = tier.parent
    if tier.bases:
        given["bases"] = tier.bases
    if tier.args:
        given["args"] = tier.args
    if tier.target.target is not None:
        given["target"] = tier.target.target
    for number, tag in enumerate(tier.target.tags):
        place, _, name = tag.rpartition("/")[2].rpartition(":")
        friendly = name if place and _TAG.fullmatch(name) else "latest"
        if number == 0 and friendly != "latest":
            given["tag"] = friendly
        kept = f"the tag is {friendly} of NAME/{tier.name}" if number == 0 else "a tier has one tag"
        notes.left.append(f"{where}: tags: {tag}: {kept}")
    network, secrets = _network(tier, notes), _secrets(tier, notes)
    if network is not None:
        given["network"] = network
    if secrets:
        given["secrets"] = secrets
    return given


def _network(tier: _Tier, notes: _Notes) -> str | None:
    given = tier.target.network
    if given in _NETWORKS:
        return given
    if given not in {"", "default"}:
        notes.left.append(f"target {tier.target.name}: network: {given}: only {' and '.join(_NETWORKS)} can be said")
    return None


def _secrets(tier: _Tier, notes: _Notes) -> dict[str, dict[str, str]]:
    """Return secrets and SSH agents by id."""
    where = f"target {tier.target.name}"
    secrets: dict[str, dict[str, str]] = {}
    for id_, paths in tier.target.ssh.items():
        if len(paths) > 1:
            notes.left.append(f"{where}: ssh: {id_}={','.join(paths)}: an agent has one socket or key")
        else:
            secrets[id_] = {"ssh": paths[0] if paths else "default"}
    for secret in tier.target.secrets:
        id_, env, file = secret.get("id", ""), secret.get("env"), secret.get("src", secret.get("source"))
        shown = f"{where}: secret: {','.join(f'{key}={value}' for key, value in secret.items())}"
        if id_ in secrets:
            notes.left.append(f"{shown}: an SSH agent has that id, too; call one of them otherwise")
        elif id_ and (env or file):
            secrets[id_] = {"env": env} if env else {"file": str(file)}
        else:
            notes.left.append(f"{shown}: name its env or src")
    return secrets


def _with_aliases(tier: _Tier) -> str:
    """Return the Dockerfile with a stage for each image that it calls by another name, before its first own stage."""
    if not tier.aliases:
        return tier.text
    lines = tier.text.split("\n")
    first = tier.dockerfile.stages[0].line - 1
    stages = [f"FROM ${{{arg}}} AS {name}" for name, arg in tier.aliases]
    lines[first:first] = [*(f"ARG {arg}" for arg in dict.fromkeys(arg for _, arg in tier.aliases)), *stages]
    return "\n".join(lines)
