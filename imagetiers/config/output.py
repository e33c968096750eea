"""What pipeline.yaml says of tiers that make files and no image: where these go, and what such a tier cannot have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from imagetiers.config.layout import DEFAULT_CACHE, IMAGES, PIPELINE_FILE, PIPELINE_LOCK
from imagetiers.config.model import MadeFiles
from imagetiers.config.schema import cut, place
from imagetiers.config.yamltree import Node
from imagetiers.errors import Problem

__all__ = ["dest_fault", "output_problems", "overlap", "read_output"]

_OF_IMAGES = ("tag", "tags", "image", "labels", "verify", "budget")
_OWN = frozenset({IMAGES, PurePosixPath(DEFAULT_CACHE).parts[0], PIPELINE_FILE, PIPELINE_LOCK, "dodo.py", ".git"})
_LONGEST = 500  # characters


def read_output(given: Mapping[str, str] | None) -> MadeFiles | None:
    """Return where a tier's files go; None where it makes an image."""
    return None if given is None else MadeFiles(given["type"], given["dest"].removeprefix("./").rstrip("/"))


def dest_fault(text: str) -> tuple[str, str] | None:
    """Say what is wrong with a place in the repository, and the cure; None for a good one."""
    cure = "write a path of its own in the repository, such as dist or reports/tests.tar"
    parts = text.removeprefix("./").rstrip("/").split("/")
    if not all(parts) or {".", ".."} & set(parts) or not text.isprintable() or len(text) > _LONGEST:
        return f"'{cut(text)}' is not the plain path of something in the repository", cure
    return (f"{parts[0]} is not for what a tier makes", cure) if parts[0] in _OWN else None


def overlap(one: str, other: str) -> bool:
    """Say whether one of two places is the other, or lies in it."""
    first, second = PurePosixPath(one), PurePosixPath(other)
    return first.is_relative_to(second) or second.is_relative_to(first)


def output_problems(tree: Node) -> Iterator[Problem]:
    """Yield what a schema cannot say: what has no meaning without an image, who takes from none, and places that overlap."""
    node = tree.at(("tiers",))
    plain = {name: tier.plain() for name, tier in node.value.items()} if isinstance(node.value, dict) else {}
    tiers = {name: tier for name, tier in plain.items() if node is not tree and isinstance(tier, dict)}
    dests = {name: dest for name, tier in tiers.items() if (dest := _dest(tier)) is not None}
    for name, tier in tiers.items():
        for key in _OF_IMAGES if "output" in tier else ():
            if key in tier:
                what = "means nothing: with an output the tier makes files and no image"
                yield Problem(place(tree, ("tiers", name, key), PIPELINE_FILE, key=True), what, "remove one of the two")
        for path, value in _taken(name, tier):
            where = place(tree, path, PIPELINE_FILE)
            if path[-1] != "path" and "output" in tiers.get(value, ()):
                yield Problem(where, f"the tier {value} makes files and no image", _TAKE.format(value))
            for maker, dest in dests.items() if path[-1] == "path" else ():
                if overlap(value.strip("/"), dest):
                    yield Problem(where, f"is, or holds, what the tier {maker} makes ({dest})", _TAKE.format(maker))
    yield from _in_the_cache(tree, dests)
    names = list(dests)
    for number, name in enumerate(names):
        other = next((each for each in names[:number] if overlap(dests[each], dests[name])), None)
        if other is not None:
            where = place(tree, ("tiers", name, "output", "dest"), PIPELINE_FILE)
            yield Problem(where, f"is, or holds, what the tier {other} makes ({dests[other]})", "choose another place")


def _in_the_cache(tree: Node, dests: Mapping[str, str]) -> Iterator[Problem]:
    cache = tree.at(("cache",))
    folder = cache.value.removeprefix("./").rstrip("/") if cache is not tree and isinstance(cache.value, str) else ""
    for name, dest in dests.items() if folder and "://" not in folder else ():
        if overlap(folder, dest):
            where = place(tree, ("tiers", name, "output", "dest"), PIPELINE_FILE)
            yield Problem(where, f"is, or holds, or lies in the cache ({folder})", "choose another place")


def _taken(name: str, tier: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what a tier says that it is made from, and where: its parent, tiers and folders."""
    contexts = tier.get("contexts")
    said = contexts.items() if isinstance(contexts, dict) else ()
    given = {("parent",): tier.get("parent")} | {
        ("contexts", context, key): each.get(key)
        for context, each in said
        for key in ("tier", "path")
        if isinstance(each, dict)
    }
    for path, value in given.items():
        if isinstance(value, str):
            yield ("tiers", name, *path), value


_TAKE = "let the Dockerfile of {} be a stage of this one's, or give both a tier to take from"


def _dest(tier: Mapping[str, Any]) -> str | None:
    given = tier.get("output")
    dest = given.get("dest") if isinstance(given, dict) else None
    return dest.removeprefix("./").rstrip("/") if isinstance(dest, str) and dest_fault(dest) is None else None
