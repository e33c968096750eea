"""BuildKit's records of layers, and what else of Docker's API the SDK has no method for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import docker.errors
import requests

from imagetiers.planning.observed import CacheRecord

if TYPE_CHECKING:
    from docker.api.client import APIClient

__all__ = ["get_json", "prune_records", "read_records"]

_BATCH = 100  # ids in one request: they stand in its URL


def get_json(api: APIClient, path: str) -> Any:
    """GET a path of the API; return the JSON of its answer, None where there is no such thing."""
    try:
        return _answer(api, "GET", path)
    except docker.errors.NotFound:
        return None


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


def _answer(api: APIClient, method: str, path: str, **params: str) -> Any:
    url = f"{api.base_url}/v{api.api_version}{path}"
    response = api.request(method, url, params=params, timeout=api.timeout)
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        raise docker.errors.create_api_error_from_http_exception(error) from error
    return response.json()
