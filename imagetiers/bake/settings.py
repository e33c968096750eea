"""What pipeline.yaml says of a tier that a target becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imagetiers.bake.draft import Draft, Notes
from imagetiers.bake.variables import Variables
from imagetiers.config.layout import DOCKERFILE
from imagetiers.config.output import dest_fault
from imagetiers.config.references import check_place

__all__ = ["settings_of"]

_NETWORKS = ("none", "host")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LATEST = "latest"
# What bake does with an image that doit keeps by itself: nothing of it is lost.
_KEPT = ({"type": "docker"}, {"type": "image"}, {"type": "cacheonly"})
_FILES = frozenset({"local", "tar", "oci"})


def settings_of(
    draft: Draft, variables: Variables, dockerfile: str, taken: frozenset[str], notes: Notes
) -> dict[str, Any]:
    """Return the settings; `dockerfile` is the name of its Dockerfile, `taken` are tiers that others take from."""
    given: dict[str, Any] = {}
    if draft.folder != draft.name:
        given["folder"] = draft.folder
    if dockerfile != DOCKERFILE:
        given["dockerfile"] = dockerfile
    if draft.parent is not None:
        given["parent"] = draft.parent
    marked = draft.marked.args if draft.marked is not None else {}
    if draft.bases:
        given["bases"] = _referring(draft.bases, {**marked, **draft.marked_bases}, variables)
    if draft.contexts:
        given["contexts"] = draft.contexts
    if draft.args:
        given["args"] = _referring(draft.args, marked, variables)
    if draft.target.target is not None:
        given["target"] = draft.target.target
    output = _output(draft, taken, notes)
    given |= _of_image(draft, variables, notes) if output is None else {"output": output}
    given |= _access(draft, notes)
    notes.left += [f"{draft.where}: {key}: {_shown(value)}" for key, value in draft.target.rest.items()]
    return given


def _output(draft: Draft, taken: frozenset[str], notes: Notes) -> dict[str, str] | None:
    """Return where its files go, if it makes no image."""
    outputs = [output for output in draft.target.outputs if output not in _KEPT]
    made = (
        {key: outputs[0].get(key, "") for key in ("type", "dest")} if len(draft.target.outputs) == 1 and outputs else {}
    )
    if (
        made
        and made == outputs[0]
        and made["type"] in _FILES
        and draft.name not in taken
        and not dest_fault(made["dest"])
    ):
        names = [*draft.target.tags, *draft.target.labels]
        notes.left += (
            [f"{draft.where}: {', '.join(names)}: with an output it makes files and no image"] if names else []
        )
        return made
    why = "others take from its image" if draft.name in taken else "a tier makes one thing, at a place of its own"
    notes.left += [f"{draft.where}: output: {_csv(output)}: {why}" for output in outputs]
    return None


def _csv(fields: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in fields.items())


def _of_image(draft: Draft, variables: Variables, notes: Notes) -> dict[str, Any]:
    """Return what an image is called, and says of itself."""
    labels = {name: value for name, value in draft.target.labels.items() if value is not None}
    marked = draft.marked.labels if draft.marked is not None else {}
    return _names(draft, variables, notes) | ({"labels": _referring(labels, marked, variables)} if labels else {})


def _referring(values: Mapping[str, str], marked: Mapping[str, str | None], variables: Variables) -> dict[str, str]:
    return {name: variables.refer(value, marked.get(name)) for name, value in values.items()}


def _access(draft: Draft, notes: Notes) -> dict[str, Any]:
    """Return what builds may reach."""
    network, secrets = _network(draft, notes), _secrets(draft, notes)
    return ({"network": network} if network is not None else {}) | ({"secrets": secrets} if secrets else {})


def _names(draft: Draft, variables: Variables, notes: Notes) -> dict[str, Any]:
    """Return the repository and the tags of an image: of several repositories that of the first tag."""
    target, marked = draft.target, draft.marked
    texts = marked.tags if marked is not None and len(marked.tags) == len(target.tags) else target.tags
    repository, tags = "", []
    for tag, text in zip(target.tags, texts, strict=True):
        (place, name), (shown_place, shown_name) = _split(tag), _split(text)
        if not repository and check_place(place) is None and "/" in place:
            repository, shown_repository = place, variables.refer(place, shown_place)
        if place == repository and _TAG.fullmatch(name):
            tags.append(variables.refer(name, shown_name))
        else:
            notes.left.append(
                f"{draft.where}: tags: {tag}: a tier has one repository, {repository or 'HOST/PATH/NAME'}"
            )
    if not repository:
        return {}
    first, *others = dict.fromkeys(tags)
    names: dict[str, Any] = {"image": shown_repository}
    if first != _LATEST or others:
        names["tag"] = first
    return names | ({"tags": others} if others else {})


def _split(tag: str) -> tuple[str, str]:
    place, colon, name = tag.rpartition(":")
    return (place, name) if colon and "/" not in name else (tag, _LATEST)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _network(draft: Draft, notes: Notes) -> str | None:
    given = draft.target.network
    if given in _NETWORKS:
        return given
    if given not in {"", "default"}:
        notes.left.append(f"{draft.where}: network: {given}: only {' and '.join(_NETWORKS)} can be said")
    return None


def _secrets(draft: Draft, notes: Notes) -> dict[str, dict[str, str]]:
    """Return secrets and SSH agents by id."""
    where = draft.where
    secrets: dict[str, dict[str, str]] = {}
    for id_, paths in draft.target.ssh.items():
        if len(paths) > 1:
            notes.left.append(f"{where}: ssh: {id_}={','.join(paths)}: an agent has one socket or key")
        else:
            secrets[id_] = {"ssh": paths[0] if paths else "default"}
    for secret in draft.target.secrets:
        id_, env, file = secret.get("id", ""), secret.get("env"), secret.get("src", secret.get("source"))
        shown = f"{where}: secret: {_csv(secret)}"
        if id_ in secrets:
            notes.left.append(f"{shown}: an SSH agent has that id, too; call one of them otherwise")
        elif id_ and (env or file):
            secrets[id_] = {"env": env} if env else {"file": str(file)}
        else:
            notes.left.append(f"{shown}: name its env or src")
    return secrets
