"""A bake file, evaluated: what `docker buildx bake --print` says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imagetiers.errors import PipelineError, Problem

__all__ = ["BakeFile", "BakeTarget", "parse_print"]

_KNOWN = frozenset(
    {"context", "contexts", "dockerfile", "dockerfile-inline", "args", "tags", "target", "platforms"}
    | {"labels", "output", "secret", "ssh", "network"}
)


@dataclass(frozen=True, slots=True)
class BakeTarget:
    """A target with everything that it inherits. An argument that is None comes from bake's environment, a label is none.

    `ssh` are agents by id, with their sockets or keys: none for the usual agent. `network` is '' where it says none. `rest`
    is what it says beyond that, by attribute.
    """

    name: str
    context: str
    dockerfile: str
    inline: str | None
    contexts: Mapping[str, str]
    args: Mapping[str, str | None]
    labels: Mapping[str, str | None]
    tags: tuple[str, ...]
    outputs: tuple[Mapping[str, str], ...]
    target: str | None
    platforms: tuple[str, ...]
    secrets: tuple[Mapping[str, str], ...]
    ssh: Mapping[str, tuple[str, ...]]
    network: str
    rest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BakeFile:
    """All targets and groups of a file; a matrix is one target an entry, and a group of them."""

    targets: Mapping[str, BakeTarget]
    groups: Mapping[str, frozenset[str]]


def parse_print(given: Mapping[str, Any], name: str) -> BakeFile:
    """Read what `bake --print` printed, as parsed JSON. Raises PipelineError where it is of another form."""
    try:
        targets = {key: _target(key, value) for key, value in sorted(given.get("target", {}).items())}
        members = {key: tuple(map(str, value["targets"])) for key, value in given.get("group", {}).items()}
        groups = {key: frozenset(_flat(key, members, ())) for key in members}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"is no bake file that is understood ({type(error).__name__}: {error})"
        raise PipelineError(Problem(name, what, "docker buildx bake --print shows how bake reads it")) from None
    return BakeFile(targets, groups)


def _flat(name: str, members: Mapping[str, tuple[str, ...]], above: tuple[str, ...]) -> Iterator[str]:
    """Yield the targets of a group; a group may hold groups."""
    for each in members[name]:
        if each in members and each not in {*above, name}:
            yield from _flat(each, members, (*above, name))
        else:
            yield each


def _target(name: str, given: Mapping[str, Any]) -> BakeTarget:
    inline = given.get("dockerfile-inline")
    return BakeTarget(
        name=name,
        context=str(given.get("context") or "."),
        dockerfile=str(given.get("dockerfile") or "Dockerfile"),
        inline=None if inline is None else str(inline),
        contexts={key: str(value) for key, value in (given.get("contexts") or {}).items()},
        args=_values(given.get("args")),
        labels=_values(given.get("labels")),
        tags=tuple(map(str, given.get("tags") or ())),
        outputs=tuple(_fields(entry) for entry in given.get("output") or ()),
        target=given.get("target"),
        platforms=tuple(map(str, given.get("platforms") or ())),
        secrets=tuple(_fields(entry) for entry in given.get("secret") or ()),
        ssh=dict(_agent(entry) for entry in given.get("ssh") or ()),
        network=str(given.get("network") or ""),
        rest={key: value for key, value in given.items() if key not in _KNOWN and value not in (None, [], {}, "")},
    )


def _values(given: Mapping[str, Any] | None) -> Mapping[str, str | None]:
    return {key: None if value is None else str(value) for key, value in (given or {}).items()}


def _fields(entry: Any) -> Mapping[str, str]:
    """Read `id=token,env=TOKEN`, which newer versions print as a mapping."""
    if isinstance(entry, Mapping):
        return {str(key): str(value) for key, value in entry.items()}
    return dict(part.strip().partition("=")[::2] for part in str(entry).split(","))


def _agent(entry: Any) -> tuple[str, tuple[str, ...]]:
    """Read `default`, `git=PATH,PATH`, or the mapping that newer versions print."""
    if isinstance(entry, Mapping):
        return str(entry.get("id") or "default"), tuple(map(str, entry.get("paths") or ()))
    id_, _, paths = str(entry).partition("=")
    return id_, tuple(path for path in paths.split(",") if path)
