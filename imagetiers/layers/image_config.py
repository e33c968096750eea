"""An image's configuration: what runs in it, as whom, and with which variables. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from imagetiers.layers.model import LayerError

__all__ = ["ImageConfig", "read_image_config"]


def _none() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of how it is run. `healthcheck` is the test, None where there is none; `ports` are as `8080/tcp`.

    `history` are the instructions that it was made by, each with the layer that it made, counted from 0, or None.
    """

    user: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = ""
    env: Mapping[str, str] = field(default_factory=_none)
    labels: Mapping[str, str] = field(default_factory=_none)
    ports: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] | None = None
    history: tuple[tuple[str, int | None], ...] = ()


def read_image_config(document: Mapping[str, Any]) -> ImageConfig:
    """Read the configuration, as registries and archives hold it. Raises LayerError for what is none."""
    config = document.get("config", document.get("Config"))
    if not isinstance(config, dict):
        raise LayerError("the image has no configuration")
    env = dict(text.partition("=")[::2] for text in _texts(config.get("Env")))
    health = config.get("Healthcheck")
    test = _texts(health.get("Test")) if isinstance(health, dict) else ()
    labels = config.get("Labels")
    ports = config.get("ExposedPorts")
    return ImageConfig(
        user=str(config.get("User") or ""),
        entrypoint=_texts(config.get("Entrypoint")),
        cmd=_texts(config.get("Cmd")),
        workdir=str(config.get("WorkingDir") or ""),
        env=MappingProxyType(env),
        labels=MappingProxyType({str(k): str(v) for k, v in labels.items()} if isinstance(labels, dict) else {}),
        ports=tuple(sorted(map(str, ports))) if isinstance(ports, dict) else (),
        healthcheck=None if not test or test == ("NONE",) else test,
        history=tuple(_history(document.get("history"))),
    )


def _history(steps: object) -> Iterator[tuple[str, int | None]]:
    layers = 0
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, dict):
            empty = bool(step.get("empty_layer"))
            yield str(step.get("created_by") or ""), None if empty else layers
            layers += not empty


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise LayerError("the image's configuration is damaged")
    return tuple(value)
