"""What engines with containerd's image store say, as they were heard to: Docker 26.1, and what it says since API 1.47."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagetiers.adapters.docker import DockerEngine
from imagetiers.errors import RegistryError
from imagetiers.planning.labels import Label
from tests.many.daemon import daemon
from tests.registry.harness import NoCancellation

ID = "sha256:3f15930721838afcf396e5be8f9d572c69b01a9ef8f93e91d0e4ca24b787adec"
LISTED: dict[str, Any] = {
    "Containers": -1,
    "Created": 1796119571,
    "Id": ID,
    "Labels": {Label.KEY: "8800b0ab935e", Label.TIER: "arr-base"},
    "ParentId": "",
    "RepoDigests": [f"arr-coc/arr-base@{ID}"],
    "RepoTags": ["arr-coc/arr-base:8800b0ab935e", "arr-coc/arr-base:quickstart"],
    "SharedSize": -1,
    "Size": 172_779_014,  # as `docker images` has it: layers as they were pulled, and unpacked
}
HISTORY = [
    {"CreatedBy": "COPY config/ /config/ # buildkit", "Size": 12_288},
    {"CreatedBy": "USER 10001", "Size": 0},
    {"CreatedBy": "", "Size": 89_759_744},
]
UNPACKED = 12_288 + 89_759_744
SAID_SINCE = [
    {"ID": ID, "Available": True, "Kind": "image", "Size": {"Content": 83_006_982, "Total": 172_779_014},
     "ImageData": {"Platform": {"architecture": "amd64", "os": "linux"}, "Containers": [], "Size": {"Unpacked": UNPACKED}}},
    {"ID": f"sha256:{5:064}", "Available": True, "Kind": "attestation", "Size": {"Content": 1_914, "Total": 1_914},
     "AttestationData": {"For": ID}},
]  # fmt: skip
PUSHED = "sha256:85fccbfae0150575747ec38a8ce9268414d75cad735b8c94e99b90fbd06a0ac7"


def listed(path: Path, monkeypatch: pytest.MonkeyPatch, *images: dict[str, Any]) -> tuple[list[int], list[str]]:
    """Return the sizes that an engine finds which answers with these images, and what it was asked."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    history = {f"/images/{ID}/history": json.dumps(HISTORY).encode()}
    with daemon(path, json.dumps(images).encode(), history) as asked:
        found = DockerEngine(NoCancellation()).images()
    return [image.size for image in found], [target.partition("?")[0] for target in asked if target != "/_ping"]


def test_an_image_weighs_what_is_unpacked_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, asked = listed(tmp_path / "26.sock", monkeypatch, LISTED)
    assert (sizes, asked) == ([UNPACKED], ["/images/json", f"/images/{ID}/history"])

    sizes, asked = listed(tmp_path / "since.sock", monkeypatch, {**LISTED, "Manifests": SAID_SINCE})
    assert (sizes, asked) == ([UNPACKED], ["/images/json"]), "where it stands in the list, nothing more is asked"


def test_with_a_graph_driver_it_weighs_what_docker_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = {**LISTED, "RepoDigests": [f"127.0.0.1:5000/arr-base@{PUSHED}"], "Size": 82_966_022}
    sizes, asked = listed(tmp_path / "graph.sock", monkeypatch, pushed, {**pushed, "RepoDigests": []})

    assert (sizes, asked) == ([82_966_022] * 2, ["/images/json"])


def test_what_has_lost_its_labels_is_no_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, _ = listed(tmp_path / "lost.sock", monkeypatch, {**LISTED, "Labels": None, "RepoDigests": [], "Size": 9_251})
    assert sizes == [9_251]


class Pushing:
    """An API whose pushes say this."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self._events = events

    def push(self, ref: str, *, stream: bool, decode: bool) -> Iterator[dict[str, Any]]:
        assert (ref, stream, decode) == ("127.0.0.1:5000/x:1", True, True)
        return iter(self._events)


def push(monkeypatch: pytest.MonkeyPatch, *events: dict[str, Any]) -> str:
    engine = DockerEngine(NoCancellation())
    monkeypatch.setattr(engine, "_connected", Pushing(*events))
    return engine.push("127.0.0.1:5000/x:1", lambda _: None)


def test_a_push_ends_with_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = {"status": "Pushed", "progressDetail": {}, "id": "115e6e1f3b78"}
    last = {"status": f"1: digest: {PUSHED} size: 3032"}
    assert push(monkeypatch, layer, last) == PUSHED

    with_word = {"progressDetail": {}, "aux": {"Tag": "1", "Digest": PUSHED, "Size": 3032}}
    assert push(monkeypatch, layer, last, with_word) == PUSHED, "as an engine with a graph driver ends it"

    with pytest.raises(RegistryError, match="does not say as what"):
        push(monkeypatch, layer, {"status": "1: digest: none"})


@pytest.mark.parametrize(("status", "tries"), [("503 Service Unavailable", 4), ("403 Forbidden", 1)])
def test_a_registry_that_fails_for_a_moment(monkeypatch: pytest.MonkeyPatch, status: str, tries: int) -> None:
    commit = f'failed commit on ref "manifest-{PUSHED}"'
    said = f"{commit}: unexpected status from PUT request to http://127.0.0.1:5000/v2/x/manifests/1: {status}"
    tried: list[str] = []

    class Failing(Pushing):
        def push(self, ref: str, *, stream: bool, decode: bool) -> Iterator[dict[str, Any]]:
            tried.append(ref)
            return super().push(ref, stream=stream, decode=decode)

    engine = DockerEngine(NoCancellation())
    monkeypatch.setattr(engine, "_connected", Failing({"errorDetail": {"message": said}, "error": said}))
    with pytest.raises(RegistryError, match=status):
        engine.push("127.0.0.1:5000/x:1", lambda _: None)
    assert len(tried) == tries
