"""Image builds and containers, as values: what an engine is asked to run. Knows nothing of plans. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagetiers.config.layout import Volume
from imagetiers.config.model import SSH_AGENT, Secret

__all__ = ["LAUNCHER", "BindMount", "BuildImage", "Container", "VolumeMount", "through_volume"]

LAUNCHER = (
    "job"  # the name of the program that stands before compilers, as the processes of a compile's container have it
)


@dataclass(frozen=True, slots=True)
class BuildImage:
    """A `docker buildx build` with the context as a tar on stdin, and named `contexts` as buildx writes them.

    `network` is "none", "host", or None for BuildKit's usual.
    `layers` is an image in a registry whose layers are taken where they would be made again, and says of the new image how
    its own are made (BuildKit's inline cache). One that is not there is no failure. With an `archive` the files are written
    there as a tar, and the engine gets no image. `compression` is that of new layers; None: as the engine does by itself.
    """

    tags: tuple[str, ...]
    target: str | None  # None: the last stage
    platform: str
    args: Mapping[str, str]
    labels: Mapping[str, str]
    contexts: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    no_cache: bool = False
    layers: str | None = None
    archive: Path | None = None
    network: str | None = None
    compression: str | None = None

    def argv(self) -> tuple[str, ...]:
        """Return the command. Values of secrets are in none of its words."""
        words = ["docker", "buildx", "build", "--progress=plain", self._output(), "--provenance=false"]
        words.append(f"--platform={self.platform}")
        if self.target is not None:
            words.append(f"--target={self.target}")
        words += [f"--tag={tag}" for tag in self.tags if self.archive is None]
        words += [f"--build-arg={name}={value}" for name, value in sorted(self.args.items())]
        words += [f"--build-context={name}={source}" for name, source in sorted(self.contexts.items())]
        words += [f"--label={name}={value}" for name, value in sorted(self.labels.items())]
        words += [_secret(secret) for secret in self.secrets]
        if self.network is not None:
            words.append(f"--network={self.network}")
        if self.layers is not None:
            words += [f"--cache-from=type=registry,ref={self.layers}", "--cache-to=type=inline"]
        if self.no_cache:
            words.append("--no-cache")
        return (*words, "-")

    def _output(self) -> str:
        if self.archive is not None:
            return f"--output={_csv('type=tar', f'dest={self.archive}')}"
        if self.compression is None:
            return "--load"
        return f"--output=type=image,compression={self.compression},oci-mediatypes=true,unpack=true"


def _secret(secret: Secret) -> str:
    if secret.ssh is not None:
        return f"--ssh={secret.id}" if secret.ssh == SSH_AGENT else f"--ssh={secret.id}={secret.ssh}"
    source = f"env={secret.env}" if secret.env is not None else f"src={secret.file}"
    return f"--secret=id={secret.id},{source}"


def _csv(*fields: str) -> str:
    """Return fields as buildx reads them: a path may hold commas."""
    return ",".join('"' + field.replace('"', '""') + '"' if set('",') & set(field) else field for field in fields)


@dataclass(frozen=True, slots=True)
class BindMount:
    """A folder of the host, seen in a container."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A Docker volume, or a folder of it that is already there, seen in a container."""

    volume: str
    target: str
    subpath: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """A container to run. `argv` replaces entrypoint and command; `user` is `uid:gid`, None = the image's own.

    `tmpfs` are folders in memory, with their mount options. `memory` is its limit in bytes, and it has no swap beyond that.
    `gpus`: it gets all GPUs of the host, as by `--gpus all`. `network` is "none" or "host". `cpus` are its processors, as
    by `--cpuset-cpus`; "" for all.
    """

    name: str
    image: str
    argv: tuple[str, ...]
    user: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[BindMount | VolumeMount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str = "none"
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    memory: int | None = None
    gpus: bool = False
    cpus: str = ""


def through_volume(container: Container, volume: Volume, *, subpaths: bool) -> Container:
    """Return the container with what it mounts from `volume` mounted by the volume's name, as its daemon knows it.

    Daemons before Docker 26 mount only whole volumes (`subpaths` is false): then the container sees all of it where we
    see it, and the environment that named the mounts' targets names the folders there.
    """
    mounts: list[BindMount | VolumeMount] = []
    moved: dict[str, Path] = {}
    for mount in container.mounts:
        subpath = volume.subpath(mount.source) if isinstance(mount, BindMount) else None
        if not isinstance(mount, BindMount) or subpath is None:
            mounts.append(mount)
        elif subpaths:
            mounts.append(VolumeMount(volume.name, mount.target, subpath, mount.read_only))
        else:
            moved[mount.target] = mount.source
    if moved:
        mounts.append(VolumeMount(volume.name, str(volume.path)))
    env = {name: _moved(value, moved) for name, value in container.env.items()}
    return replace(container, mounts=tuple(mounts), env=env)


def _moved(value: str, moved: Mapping[str, Path]) -> str:
    for target, source in moved.items():
        if value == target or value.startswith(f"{target}/"):
            return f"{source}{value.removeprefix(target)}"
    return value
