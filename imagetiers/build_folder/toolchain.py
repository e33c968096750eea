"""What compiles besides the sources: every file of the image, the environment, the processor, the kernel."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

__all__ = ["differences", "environment", "machine"]

_LEFT_OUT = frozenset(
    {
        "/dev", "/imagetiers", "/proc", "/run", "/sys", "/tmp", "/var/cache", "/var/lib/apt", "/var/log", "/var/tmp",  # noqa: S108
        "/.dockerenv",
    }
)  # fmt: skip
# What no output depends on: how many jobs run, what this container is called, what a shell keeps for itself.
_UNSAID = frozenset({"HOSTNAME", "MAX_JOBS", "NINJA_STATUS", "OLDPWD", "PWD", "SHLVL", "TERM", "_"})
_UNSAID_OF = ("IMAGETIERS_", "CCACHE_MAXSIZE", "CCACHE_STATSLOG", "CCACHE_LOGFILE")
_DEPTH = 3
_SHOWN = 4


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return hashes of the variables that an output may depend on, by `$NAME`."""
    return {
        f"${name}": hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
        for name, value in variables.items()
        if name not in _UNSAID and not name.startswith(_UNSAID_OF)
    }


def machine(leave_out: Collection[str]) -> dict[str, str]:
    """Return hashes by what they are of: folders of the image, processor, kernel.

    `leave_out` are folders of the sources (absolute). What this user cannot read, no compiler of this user's can.
    """
    kernel = os.uname()
    found = {
        "the kernel": f"{kernel.sysname} {kernel.release} {kernel.machine}",
        "the processor": _processor(),
        "the user": "root" if os.geteuid() == 0 else "a user",
    }
    found.update(_files(_LEFT_OUT | set(leave_out) | set(_mounts())))
    return found


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say what differs; nothing where nothing does."""
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _processor() -> str:
    """Return what programs that ask the processor may find: configurations look for AVX by running a program."""
    wanted = ("vendor_id", "model name", "flags", "Features", "CPU implementer", "CPU part")
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        lines = {" ".join(line.split()) for line in file if line.startswith(wanted)}
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _mounts() -> Iterator[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            point = line.split()[4].encode("latin-1", "surrogateescape").decode("unicode_escape")
            if point != "/":
                yield point


def _files(leave_out: Collection[str]) -> dict[str, str]:
    listed: list[tuple[str, int]] = []
    waiting = ["/"]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            path = entry.path
            if path in leave_out or entry.name == "__pycache__":
                continue
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                waiting.append(path)
            elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                listed.append((path, mode))
    listed.sort()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        digests = pool.map(_digest, listed, chunksize=64)
    groups: dict[str, hashlib._Hash] = defaultdict(hashlib.sha256)
    for (path, mode), digest in zip(listed, digests, strict=True):
        if digest is not None:
            group = "/".join(path.split("/")[: _DEPTH + 1])
            groups[group if len(group) < len(path) else os.path.dirname(path)].update(
                f"{path}\0{mode:o}\0{digest}\n".encode("utf-8", "surrogateescape")
            )
    return {group: digest.hexdigest() for group, digest in groups.items()}


def _digest(file: tuple[str, int]) -> str | None:
    path, mode = file
    try:
        if stat.S_ISLNK(mode):
            return os.readlink(path)
        with open(path, "rb") as content:
            digest = hashlib.sha256()
            while piece := content.read(1 << 20):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()
