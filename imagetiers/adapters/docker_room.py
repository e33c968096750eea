"""What takes room on a Docker engine: images by their layers, and containers that hold them. Asks without the SDK."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from imagetiers.planning.labels import Label
from imagetiers.planning.observed import ImageInfo, Stored, StoredImage

__all__ = ["layer_sizes", "read_stored"]

Get = Callable[[str], Any]
"""GETs a path of the API and returns the JSON of its answer, None where there is none."""
Info = Callable[[Mapping[str, Any], int], ImageInfo]
"""Reads what the API lists of an image, which has so many bytes in its layers."""

_MAKES_A_LAYER = ("RUN", "COPY", "ADD", "WORKDIR")


def read_stored(get: Get, info: Info) -> Stored | None:
    """Return all images of the engine, ours or not, and the compiles that have a container; None where it does not say."""
    containers, images = get("/containers/json?all=true"), get("/images/json")
    if containers is None or images is None:
        return None
    held = frozenset(str(container["ImageID"]) for container in containers)
    labels = [container.get("Labels") or {} for container in containers]
    compiling = frozenset(str(found[Label.COMPILE_KEY]) for found in labels if Label.COMPILE_KEY in found)
    return Stored(tuple(_images(get, images, info, held)), compiling)


def _images(
    get: Get,
    images: Iterable[dict[str, Any]],
    info: Info,
    held: Collection[str],
) -> Iterator[StoredImage]:
    for listed in images:
        listed["Labels"] = labels = listed.get("Labels") or {}
        ours = (
            Label.KEY in labels or Label.COMPILE_KEY in labels
        )  # what others have never goes: its bytes matter to nobody
        found = get(f"/images/{listed['Id']}/json")
        history = get(f"/images/{listed['Id']}/history") if ours else ()
        if found is None or history is None:
            continue  # it went between the questions
        sizes = [(str(entry["CreatedBy"]), int(entry["Size"])) for entry in reversed(history)]
        layers = found["RootFS"].get("Layers") or ()
        tagged = _seconds(str((found.get("Metadata") or {}).get("LastTagTime") or ""))
        yield StoredImage(
            info(listed, sum(size for _, size in sizes)),
            str(listed["Labels"].get(Label.COMPILE_KEY, "")),
            max(float(listed["Created"]), tagged),
            tuple(zip(_chain(layers), layer_sizes(sizes, len(layers)), strict=True)),
            listed["Id"] in held,
        )


def _chain(layers: Iterable[str]) -> Iterator[str]:
    """Name each layer together with those below it, as OCI does: the same content on another parent is stored again."""
    chain = ""
    for layer in layers:
        chain = f"sha256:{hashlib.sha256(f'{chain} {layer}'.encode()).hexdigest()}" if chain else layer
        yield chain


def layer_sizes(history: Iterable[tuple[str, int]], count: int) -> tuple[int, ...]:
    """Return the bytes of an image's `count` layers, the first one first, from its history: (instruction, bytes).

    Docker does not say which entries are layers. Those with bytes are; of those without, the ones whose instruction makes a
    layer, and then whichever is left.
    """
    entries = list(history)
    layers = {at for at, (_, size) in enumerate(entries) if size}
    empty = [at for at in range(len(entries)) if at not in layers]
    likely = sorted(empty, key=lambda at: not _makes_a_layer(entries[at][0]))
    layers |= set(likely[: max(0, count - len(layers))])
    sizes = [entries[at][1] for at in sorted(layers)]
    return (*sizes[:count], *[0] * (count - len(sizes)))


def _makes_a_layer(instruction: str) -> bool:
    return instruction.removeprefix("/bin/sh -c ").removeprefix("#(nop) ").lstrip().startswith(_MAKES_A_LAYER)


def _seconds(moment: str) -> float:
    """Read a time of Docker's, with nanoseconds and of year 1 where there was none; 0.0 for what is no time."""
    try:
        found = datetime.fromisoformat(moment.rstrip("Z")[:26] + "+00:00").timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return max(found, 0.0)
