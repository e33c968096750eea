"""Whether an engine can give GPUs is what it says itself; they are asked for as `docker run --gpus all` does."""

from __future__ import annotations

from typing import Any

import pytest
from docker.api.client import APIClient

from imagetiers.adapters.docker import DockerEngine
from imagetiers.adapters.signals import SignalCancellation
from imagetiers.planning.containers import Container

BASE = {"ServerVersion": "28.0", "NCPU": 2, "MemTotal": 1 << 30}


def engine(monkeypatch: pytest.MonkeyPatch, info: dict[str, Any], created: dict[str, Any]) -> DockerEngine:
    api = APIClient(base_url="tcp://127.0.0.1:9", version="1.45")
    monkeypatch.setattr(api, "info", lambda: info)

    def create(**given: Any) -> dict[str, str]:
        created.update(given)
        return {"Id": "x"}

    monkeypatch.setattr(api, "create_container", create)
    monkeypatch.setattr(api, "start", lambda _: None)
    made = DockerEngine(SignalCancellation())
    monkeypatch.setattr(made, "_connected", api)
    return made


@pytest.mark.parametrize(
    ("more", "gives"),
    [
        ({"Runtimes": {"runc": {}}}, False),
        ({"Runtimes": {"runc": {}, "nvidia": {"path": "nvidia-container-runtime"}}}, True),
        ({"Runtimes": None, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]}, True),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "amd.com/gpu=0"}]}, False),
        ({}, False),
    ],
)
def test_the_engine_is_asked(monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], gives: bool) -> None:  # noqa: FBT001
    assert engine(monkeypatch, {**BASE, **more}, {}).info().gpus is gives


def test_all_gpus_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    created: dict[str, Any] = {}
    made = engine(monkeypatch, BASE, created)

    made.start(Container("name", "image", ("true",), gpus=True))
    assert created["host_config"]["DeviceRequests"] == [
        {"Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}
    ]
    created.clear()
    made.start(Container("name", "image", ("true",)))
    assert "DeviceRequests" not in created["host_config"]
