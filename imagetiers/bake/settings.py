"""What pipeline.yaml says of a tier that a target becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imagetiers.bake.draft import Draft, Notes
from imagetiers.bake.variables import Variables
from imagetiers.config.layout import DOCKERFILE
from imagetiers.config.references import check_place

__all__ = ["settings_of"]

_NETWORKS = ("none", "host")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LATEST = "latest"
# What bake does with an image that doit keeps by itself: nothing of it is lost.
_KEPT = frozenset({"type=docker", "type=image", "type=cacheonly"})


def settings_of(draft: Draft, variables: Variables, dockerfile: str, notes: Notes) -> dict[str, Any]:
    """Return the settings; `dockerfile` is the name of its Dockerfile."""
    given: dict[str, Any] = {}
    if draft.folder != draft.name:
        given["folder"] = draft.folder
    if dockerfile != DOCKERFILE:
        given["dockerfile"] = dockerfile
    if draft.parent is not None:
        given["parent"] = draft.parent
    if draft.bases:
        given["bases"] = _referring(draft.bases, draft.marked.args if draft.marked is not None else {}, variables)
    if draft.contexts:
        given["contexts"] = draft.contexts
    if draft.args:
        given["args"] = _referring(draft.args, draft.marked.args if draft.marked is not None else {}, variables)
    if draft.target.target is not None:
        given["target"] = draft.target.target
    given |= _names(draft, variables, notes)
    labels = {name: value for name, value in draft.target.labels.items() if value is not None}
    if labels:
        given["labels"] = _referring(labels, draft.marked.labels if draft.marked is not None else {}, variables)
    given |= _access(draft, notes)
    notes.left += [
        f"{draft.where}: {key}: {_shown(value)}"
        for key, value in draft.target.rest.items()
        if not (key == "output" and _is_kept(value))
    ]
    return given


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


def _is_kept(output: Any) -> bool:
    return isinstance(output, list) and all(each in _KEPT for each in output)


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
        shown = f"{where}: secret: {','.join(f'{key}={value}' for key, value in secret.items())}"
        if id_ in secrets:
            notes.left.append(f"{shown}: an SSH agent has that id, too; call one of them otherwise")
        elif id_ and (env or file):
            secrets[id_] = {"env": env} if env else {"file": str(file)}
        else:
            notes.left.append(f"{shown}: name its env or src")
    return secrets
