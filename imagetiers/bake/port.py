"""A bake file as a pipeline: a tier for each target, and a list of all that a pipeline cannot say. Reads, writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from imagetiers.bake.dockerfiles import TARGET, read_draft, text_of
from imagetiers.bake.draft import Draft, Notes
from imagetiers.bake.evaluate import Outline
from imagetiers.bake.model import BakeFile, BakeTarget
from imagetiers.bake.settings import settings_of
from imagetiers.bake.variables import NO_VARIABLES, Variables
from imagetiers.config.groups import TASKS
from imagetiers.config.layout import DOCKERFILE, MANIFEST, PIPELINE_FILE
from imagetiers.dockerfile.parser import parse_dockerfile
from imagetiers.errors import PipelineError
from imagetiers.scaffold.files import NewFile

__all__ = ["Port", "port"]

_PLATFORMS = ("linux/amd64", "linux/arm64")
_DEFAULT = "default"
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


def port(  # noqa: PLR0917  one value each
    bake: BakeFile, outline: Outline, root: Path, source: str, pipeline: str, variables: Variables = NO_VARIABLES
) -> Port:
    """Return the pipeline called `pipeline` for a bake file `source`, whose contexts are relative to `root`.

    A target that others inherit from is no tier when no group and no context names it. Raises PipelineError when nothing of
    it can be a tier.
    """
    notes = Notes()
    wanted = list(_wanted(bake, outline.inherited, notes))
    names = _names(wanted, notes)
    drafts: dict[str, Draft] = {}
    for target in _parents_first(wanted):
        made = _draft(target, names, variables, root, notes)
        if made is not None:
            drafts[target.name] = made
    if not drafts:
        raise PipelineError.of(source, "no target of it can be a tier", "; ".join(notes.left))
    platform = _platform(list(drafts.values()), notes)
    _choose_folders(bake, drafts)
    for draft in drafts.values():
        read_draft(draft, drafts, root, platform or _PLATFORMS[0], notes)
    dockerfiles = _dockerfiles(drafts.values())
    taken = frozenset(name for draft in drafts.values() for name in draft.made_from)
    tiers = {
        draft.name: settings_of(draft, variables, dockerfiles[draft.name], taken, notes) for draft in drafts.values()
    }
    given: dict[str, Any] = {"version": 1, "name": pipeline, "registry": None, "cache": ".imagetiers/cache"}
    if platform is not None:
        given["platform"] = platform
    used = variables.used_in(_yaml(tiers))
    if used:
        given["variables"] = {name: {"default": value, "env": name} for name, value in used.items()}
    _tell_of_shorthand(bake, outline, used, notes)
    given["tiers"] = tiers
    groups = _groups(bake, drafts, notes)
    if groups:
        given["groups"] = groups
    text = _HEADER.format(source=source) + "".join(f"# not ported: {line}\n" for line in notes.left) + _yaml(given)
    return Port(
        (NewFile(PIPELINE_FILE, text.encode()), *_files(drafts, dockerfiles)), tuple(notes.left), tuple(notes.changed)
    )


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  PyYAML's signature
        return True


def _yaml(given: Mapping[str, Any]) -> str:
    text: str = yaml.dump(
        given, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True
    )
    return text


def _tell_of_shorthand(bake: BakeFile, outline: Outline, used: Mapping[str, str], notes: Notes) -> None:
    if used:
        notes.changed.append(f"variables: they are {', '.join(used)}, with the values that they have now as defaults")
    written = [name for name in outline.variables if name not in used]
    if written:
        notes.changed.append(f"variables: what comes of them now is written: {', '.join(written)}")
    if outline.inherited:
        notes.changed.append("inherits: each tier says all that it is")
    matrices = [name for name in outline.targets if name in bake.groups]
    if matrices:
        notes.changed.append(f"matrix: a tier each, and a group of them: {', '.join(matrices)}")


def _wanted(bake: BakeFile, inherited: frozenset[str], notes: Notes) -> Iterator[BakeTarget]:
    named = {each for members in bake.groups.values() for each in members}
    named |= {value.removeprefix(TARGET) for target in bake.targets.values() for value in target.contexts.values()}
    for name, target in bake.targets.items():
        if name in inherited and name not in named:
            notes.left.append(f"target {name}: only inherited from, so it is no tier; its heirs have what it says")
        else:
            yield target


def _names(targets: list[BakeTarget], notes: Notes) -> dict[str, str]:
    """Return the names of tiers by those of targets."""
    names: dict[str, str] = {}
    for target in targets:
        name = _plain(target.name)[:50] or "tier"
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
            parent = by_name.get(value.removeprefix(TARGET)) if value.startswith(TARGET) else None
            if parent is not None and parent.name not in above:
                visit(parent, above | {parent.name})
        done.setdefault(target.name, target)

    for target in targets:
        visit(target, frozenset({target.name}))
    return list(done.values())


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _draft(
    target: BakeTarget, names: Mapping[str, str], variables: Variables, root: Path, notes: Notes
) -> Draft | None:
    where, name = f"target {target.name}", names[target.name]
    place = PurePosixPath(target.context)
    if "://" in target.context or place.is_absolute() or ".." in place.parts:
        notes.left.append(f"{where}: no tier, because its context {target.context} is not a folder of this repository")
        return None
    path = root / target.context / target.dockerfile
    try:
        text = path.read_text(encoding="utf-8") if target.inline is None else target.inline
        dockerfile = parse_dockerfile(text.encode(), f"images/{name}/{DOCKERFILE}")
    except (OSError, UnicodeDecodeError) as error:
        notes.left.append(f"{where}: no tier, because {target.dockerfile} cannot be read ({type(error).__name__})")
        return None
    except PipelineError as error:
        notes.left.append(f"{where}: no tier, because of its Dockerfile: {error.problems[0].what}")
        return None
    return Draft(name, target, variables.targets.get(target.name), text, dockerfile)


def _choose_folders(bake: BakeFile, drafts: Mapping[str, Draft]) -> None:
    """Let targets of one Dockerfile share a folder, which is called as their group is, or as one of them."""
    shared: dict[tuple[str, ...], list[Draft]] = {}
    for draft in drafts.values():
        target = draft.target
        own = (target.name,) if target.inline is not None else ()
        shared.setdefault((target.context, target.dockerfile, *own), []).append(draft)
    first = bake.groups.get(_DEFAULT, frozenset())
    for members in shared.values():
        groups = [
            name for name, listed in sorted(bake.groups.items()) if listed == {each.target.name for each in members}
        ]
        chosen = next((_plain(name) for name in groups if len(members) > 1 and name != _DEFAULT), "")
        leading = next((each for each in members if each.target.name in first), members[0])
        taken = {draft.name for draft in drafts.values()} - {each.name for each in members}
        for each in members:
            each.folder = chosen if chosen and chosen not in taken else leading.name


def _dockerfiles(drafts: Iterable[Draft]) -> dict[str, str]:
    """Return the names of Dockerfiles by tier: in a folder that tiers share, a name for each that differs."""
    names: dict[str, str] = {}
    seen: dict[tuple[str, str], str] = {}
    for draft in drafts:
        key = (draft.folder, text_of(draft))
        first = not any(folder == draft.folder for folder, _ in seen)
        names[draft.name] = seen.setdefault(key, DOCKERFILE if first else f"{DOCKERFILE}.{draft.name}")
    return names


def _files(drafts: Mapping[str, Draft], dockerfiles: Mapping[str, str]) -> Iterator[NewFile]:
    """Yield each folder's Dockerfiles and its manifest, in which is what any of its tiers takes."""
    texts: dict[str, str] = {}
    manifests: dict[str, dict[str, None]] = {}
    for draft in drafts.values():
        texts[f"images/{draft.folder}/{dockerfiles[draft.name]}"] = text_of(draft)
        manifests.setdefault(f"images/{draft.folder}/{MANIFEST}", {}).update(dict.fromkeys(draft.manifest))
    yield from (NewFile(path, text.encode()) for path, text in texts.items())
    yield from (NewFile(path, "".join(f"{line}\n" for line in lines).encode()) for path, lines in manifests.items())


def _groups(bake: BakeFile, drafts: Mapping[str, Draft], notes: Notes) -> dict[str, list[str]]:
    """Return the groups of tiers; what bake builds by default is none, where it is all."""
    groups: dict[str, list[str]] = {}
    for name, members in sorted(bake.groups.items()):
        tiers = [draft.name for each, draft in drafts.items() if each in members]
        plain = _plain(name)
        if not tiers or (name == _DEFAULT and members == set(drafts)):
            continue
        if plain in TASKS or plain in {draft.name for draft in drafts.values()} or plain in groups or not plain:
            notes.left.append(f"group {name}: {', '.join(tiers)}: something else is called so")
            continue
        groups[plain] = tiers
    return groups


def _platform(drafts: list[Draft], notes: Notes) -> str | None:
    """Return the one platform of all tiers, None where nobody says one."""
    said = list(dict.fromkeys(platform for draft in drafts for platform in draft.target.platforms))
    if len(said) == 1 and said[0] in _PLATFORMS:
        return said[0]
    known = [platform for platform in said if platform in _PLATFORMS]
    if said:
        notes.left.append(f"platforms: {', '.join(said)}: a pipeline has one, which is {(known or _PLATFORMS)[0]}")
    return known[0] if known else None
