"""The real BuildKit as the oracle: what an image holds when a Dockerfile is built, without any of our own reading."""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.registry.server import RegistryServer

__all__ = ["BASE", "Entry", "Outcome", "base_image", "bases", "build", "digest", "remove_images", "tagged", "tar_of"]

BASE = "imagetiers-oracle-base:1"
# The images of this process. They go all at once, at its end: an engine that removes an image while another build makes
# the very same one fails that build.
_NAME = f"imagetiers-oracle-{secrets.token_hex(4)}"
_APPLETS = [
    "sh",
    "cat",
    "echo",
    "ls",
    "cp",
    "mkdir",
    "true",
    "env",
    "printf",
    "sort",
    "find",
    "test",
    "rm",
    "ln",
    "wc",
    "stat",
    "tr",
]
_SKIPPED = ("dev", "proc", "sys")
# What of an image's configuration decides how it runs; the rest is times, history and the layers' names.
_CONFIG: tuple[str, ...] = (
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
)
_CONFIG += ("Shell", "Healthcheck", "OnBuild")


@dataclass(frozen=True)
class Entry:
    """What lies at a path of an image; times are left out."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: str


@dataclass(frozen=True)
class Outcome:
    """A build's result: the files of the image and its configuration, or the reason why there is none."""

    files: Mapping[str, Entry] | None
    error: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def built(self) -> bool:
        return self.files is not None

    def content(self, path: str) -> str:
        """Return the digest of a file, '' where there is none."""
        entry = (self.files or {}).get(path)
        return entry.content if entry is not None else ""

    def differs(self, other: Outcome) -> list[str]:
        """Return the paths and settings in which two images differ; what is the same otherwise is left out."""
        ours, theirs = self.files or {}, other.files or {}
        paths = sorted(path for path in {*ours, *theirs} if ours.get(path) != theirs.get(path))
        return paths + sorted(name for name in _CONFIG if self.config.get(name) != other.config.get(name))

    def shown(self, name: str) -> str:
        """Return what lies at a path, or a setting."""
        return str(self.config.get(name) if name in _CONFIG else (self.files or {}).get(name))

    @property
    def digest(self) -> str:
        """The digest of everything that is compared."""
        return digest(repr((sorted((self.files or {}).items()), sorted(self.config.items()))).encode())


def base_image(busybox: Path) -> None:
    """Make the base of all cases, of busybox alone, if it is not there. `busybox` is a static binary."""
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, check=False).returncode == 0:
        return
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("tmp", "etc", "base"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        info = tarfile.TarInfo("bin/busybox")
        data = busybox.read_bytes()
        info.size, info.mode = len(data), 0o755
        tar.addfile(info, io.BytesIO(data))
        for applet in _APPLETS:
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
        for name, text in (
            ("base/x", "from the base\n"),
            ("etc/passwd", "root:x:0:0::/:/bin/sh\nu:x:7:7::/:/bin/sh\n"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    command = ["docker", "import", "--change", "ENV FROM_BASE=set", "-", BASE]
    subprocess.run(command, input=buffer.getvalue(), check=True, capture_output=True)


# What becomes of the base: a file of it, its configuration, and nothing but its history.
_MOVED = (
    "RUN echo edited > /base/x",
    "ENV FROM_BASE=other",
    "ENV FROM_BASE=set",
    "RUN chmod 700 /base && rm /etc/passwd",
)


def bases(server: RegistryServer) -> tuple[str, tuple[str, ...]]:
    """Publish the base several times under one tag; return the reference, and the digests that it had in turn."""
    reference = f"{server.host}/oracle/base:1"
    digests: list[str] = []
    for line in ("", *_MOVED):
        built = tagged(tar_of({}, f"FROM {BASE}\n{line}\n".encode()), {})
        assert isinstance(built, str), built
        for command in (("tag", built, reference), ("push", "-q", reference)):
            subprocess.run(["docker", *command], check=True, capture_output=True)
        digests.append(server.digest("oracle/base", "1") or "")
    pushed = [f"{reference.rpartition(':')[0]}@{digest}" for digest in digests]  # each push leaves such a name behind
    subprocess.run(["docker", "rmi", reference, *pushed], check=False, capture_output=True)
    return reference, tuple(digests)


def build(
    context: bytes | Path,
    args: Mapping[str, str],
    target: str | None = None,
    *,
    contexts: Mapping[str, Path] | None = None,
    timeout: float = 60,
) -> Outcome:
    """Build a context (a folder, or a tar, with its Dockerfile) and return what the image holds."""
    built = tagged(context, args, target, contexts=contexts, timeout=timeout)
    return built if isinstance(built, Outcome) else _saved(built)


def tagged(
    context: bytes | Path,
    args: Mapping[str, str],
    target: str | None = None,
    *,
    contexts: Mapping[str, Path] | None = None,
    timeout: float = 60,
) -> str | Outcome:
    """Build a context and return the image's name, or an Outcome where there is no image; see remove_images."""
    name = f"{_NAME}:{secrets.token_hex(8)}"
    command = ["docker", "buildx", "build", "--progress=plain", "--provenance=false", "--network=none", "--load"]
    command += [f"--tag={name}", *(f"--build-arg={name}={value}" for name, value in args.items())]
    command += [f"--build-context={name}={path}" for name, path in (contexts or {}).items()]
    command += [f"--target={target}"] if target is not None else []
    source, stdin = (["-"], context) if isinstance(context, bytes) else ([str(context)], None)
    done = subprocess.run([*command, *source], input=stdin, capture_output=True, check=False, timeout=timeout)
    return name if done.returncode == 0 else Outcome(None, _reason(done.stderr.decode(errors="replace")))


def remove_images() -> None:
    """Remove all images that this process has built, but for the base."""
    listed = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", _NAME], capture_output=True, check=True, text=True
    ).stdout.split()
    for at in range(0, len(listed), 100):
        subprocess.run(["docker", "rmi", *listed[at : at + 100]], capture_output=True, check=False)


def _reason(text: str) -> str:
    errors = [line for line in text.splitlines() if line.startswith("ERROR:")]
    return re.sub(r"^ERROR: (failed to (build|solve): )*", "", errors[-1]) if errors else text[-300:]


def _saved(name: str) -> Outcome:
    archive = subprocess.run(["docker", "save", name], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        manifest = json.loads(_member(tar, "manifest.json"))[0]
        config = json.loads(_member(tar, manifest["Config"]))["config"]
        files: dict[str, Entry] = {}
        for layer in manifest["Layers"]:
            _lay_over(files, _member(tar, layer))
    return Outcome(files, config={name: config[name] for name in _CONFIG if config.get(name)})


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def _lay_over(files: dict[str, Entry], layer: bytes) -> None:
    """Apply a layer: what it removes goes first, as it is of the layers below."""
    found: dict[str, Entry] = {}
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for info in tar:
            name = info.name.removeprefix("./").strip("/")
            folder, _, last = name.rpartition("/")
            if last == ".wh..wh..opq":
                _remove(files, folder, itself=False)
            elif last.startswith(".wh."):
                _remove(files, f"{folder}/{last[4:]}".lstrip("/"), itself=True)
            elif name and name.split("/")[0] not in _SKIPPED:
                content = info.linkname
                if info.isreg():
                    content = digest(_member(tar, info.name))
                found[name] = Entry(info.type.decode(), info.mode & 0o7777, (info.uid, info.gid), content)
    for name, entry in found.items():
        if name in files and (files[name].kind == "5") != (entry.kind == "5"):
            _remove(files, name, itself=True)
        files[name] = entry


def _remove(files: dict[str, Entry], name: str, *, itself: bool) -> None:
    for path in [path for path in files if path.startswith(f"{name}/") or (itself and path == name)]:
        del files[path]


def digest(data: bytes) -> str:
    """Return how an Entry names the bytes of a file."""
    return hashlib.sha256(data).hexdigest()


def tar_of(files: Mapping[str, bytes | str], dockerfile: bytes) -> bytes:
    """Return a context as people have it: their files (a str is the target of a link) and the Dockerfile as written."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted({**files, "Dockerfile": dockerfile}.items()):
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o644, 315_532_800
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
