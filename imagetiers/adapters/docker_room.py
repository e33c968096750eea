"""What takes room on a Docker engine: images by their layers, containers that hold them, and BuildKit's records of layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import docker.errors
import requests

from imagetiers.planning.labels import Label
from imagetiers.planning.observed import CacheRecord, ImageInfo, Stored, StoredImage

if TYPE_CHECKING:
    from docker.api.client import APIClient

__all__ = ["layer_sizes", "prune_records", "read_records", "read_stored"]

_BATCH = 100  # ids in one request: they stand in its URL
_MAKES_A_LAYER = ("RUN", "COPY", "ADD", "WORKDIR")


def read_stored(api: APIClient, info: Callable[[Mapping[str, Any]], ImageInfo]) -> Stored:
    """Return all images of the engine, ours or not, and the compiles that have a container."""
    containers = api.containers(all=True)
    held = frozenset(str(container["ImageID"]) for container in containers)
    labels = [container.get("Labels") or {} for container in containers]
    compiling = frozenset(str(found[Label.COMPILE_KEY]) for found in labels if Label.COMPILE_KEY in found)
    return Stored(tuple(_images(api, info, held)), compiling)


def _images(
    api: APIClient, info: Callable[[Mapping[str, Any]], ImageInfo], held: Collection[str]
) -> Iterator[StoredImage]:
    for listed in api.images():
        try:
            found = api.inspect_image(listed["Id"])
            sizes = [(str(entry["CreatedBy"]), int(entry["Size"])) for entry in reversed(api.history(listed["Id"]))]
        except docker.errors.ImageNotFound:
            continue  # it went between the questions
        listed["Labels"] = listed.get("Labels") or {}
        layers = found["RootFS"].get("Layers") or ()
        tagged = _seconds(str((found.get("Metadata") or {}).get("LastTagTime") or ""))
        yield StoredImage(
            info(listed),
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


def read_records(api: APIClient) -> tuple[CacheRecord, ...]:
    """Return BuildKit's records of layers."""
    found = _answer(api, "GET", "/system/df", type="build-cache")
    return tuple(
        CacheRecord(str(record["ID"]), max(0, int(record["Size"])), bool(record["Shared"]))
        for record in found.get("BuildCache") or ()
    )


def prune_records(api: APIClient, ids: Iterable[str]) -> frozenset[str]:
    """Let BuildKit forget these records, but for those that it still needs; return which are gone."""
    waiting = sorted(ids)
    gone: set[str] = set()
    for start in range(0, len(waiting), _BATCH):
        # Its filter takes one value, which is a regular expression.
        filters = {"id": [f"^(?:{'|'.join(waiting[start : start + _BATCH])})$"]}
        found = _answer(api, "POST", "/build/prune", filters=json.dumps(filters))
        gone |= set(found.get("CachesDeleted") or ())
    return frozenset(gone)


def _answer(api: APIClient, method: str, path: str, **params: str) -> dict[str, Any]:
    """Ask what the SDK has no method for, or none that takes these parameters."""
    url = f"{api.base_url}/v{api.api_version}{path}"
    response = api.request(method, url, params=params, timeout=api.timeout)
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        raise docker.errors.create_api_error_from_http_exception(error) from error
    answer: dict[str, Any] = response.json()
    return answer
