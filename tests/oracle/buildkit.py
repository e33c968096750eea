"""The real BuildKit as the oracle: what an image holds when a Dockerfile is built, without any of our own reading."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BASE", "Entry", "Outcome", "base_image", "build", "digest", "tar_of"]

BASE = "imagetiers-oracle-base:1"
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
_SKIPPED = ("dev", "proc", "sys", "bin")


@dataclass(frozen=True)
class Entry:
    """What lies at a path of an image; times are left out."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: str


@dataclass(frozen=True)
class Outcome:
    """A build's result: the files of the image, or the reason why there is none."""

    files: Mapping[str, Entry] | None
    error: str = ""

    @property
    def built(self) -> bool:
        return self.files is not None

    def content(self, path: str) -> str:
        """Return the digest of a file, '' where there is none."""
        entry = (self.files or {}).get(path)
        return entry.content if entry is not None else ""

    def differs(self, other: Outcome) -> list[str]:
        """Return the paths at which two images differ; what is the same otherwise is left out."""
        ours, theirs = self.files or {}, other.files or {}
        return sorted(path for path in {*ours, *theirs} if ours.get(path) != theirs.get(path))


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


def build(context: bytes, args: Mapping[str, str], target: str | None = None, timeout: float = 60) -> Outcome:
    """Build a context (a tar with its Dockerfile) and return what the image holds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.tar"
        command = ["docker", "buildx", "build", "--progress=plain", "--provenance=false", "--network=none"]
        command += [f"--output=type=tar,dest={out}", *(f"--build-arg={name}={value}" for name, value in args.items())]
        command += [f"--target={target}"] if target is not None else []
        done = subprocess.run([*command, "-"], input=context, capture_output=True, check=False, timeout=timeout)
        text = done.stderr.decode(errors="replace")
        if done.returncode != 0:
            return Outcome(None, _reason(text))
        return Outcome(_entries(out))


def _reason(text: str) -> str:
    errors = [line for line in text.splitlines() if line.startswith("ERROR:")]
    return re.sub(r"^ERROR: (failed to (build|solve): )*", "", errors[-1]) if errors else text[-300:]


def _entries(path: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    with tarfile.open(path) as tar:
        for info in tar:
            name = info.name.removeprefix("./").rstrip("/")
            if not name or name.split("/")[0] in _SKIPPED:
                continue
            content = info.linkname
            if info.isreg():
                file = tar.extractfile(info)
                assert file is not None
                content = digest(file.read())
            entries[name] = Entry(info.type.decode(), info.mode & 0o7777, (info.uid, info.gid), content)
    return entries


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
